"""FastAPI + uvicorn + ONNX Runtime. No batching: the pair has none."""

import os

import numpy as np
import onnxruntime as ort
from fastapi import FastAPI
from pydantic import BaseModel, Field

options = ort.SessionOptions()
options.intra_op_num_threads = 1
session = ort.InferenceSession(os.environ["BENCH_MODEL_ONNX"], options, providers=["CPUExecutionProvider"])
app = FastAPI()


class Flight(BaseModel):
    features: list[float] = Field(min_length=30, max_length=30)


class Answer(BaseModel):
    probability: float


@app.post("/predict")
async def predict(flight: Flight) -> Answer:
    row = np.asarray([flight.features], dtype=np.float32)
    (probabilities,) = session.run(["probabilities"], {"x": row})
    return Answer(probability=float(probabilities[0, 1]))
