"""FastAPI + uvicorn + scikit-learn: what people write first. No batching: the pair has none."""

import os

import joblib
import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel, Field

model = joblib.load(os.environ["BENCH_MODEL_NATIVE"])
app = FastAPI()


class Flight(BaseModel):
    features: list[float] = Field(min_length=30, max_length=30)


class Answer(BaseModel):
    probability: float


@app.post("/predict")
async def predict(flight: Flight) -> Answer:
    row = np.asarray([flight.features], dtype=np.float32)
    return Answer(probability=float(model.predict_proba(row)[0, 1]))
