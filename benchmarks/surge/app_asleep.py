"""The app under test with a model that can be sent to sleep: then everything is refused, and nothing else
costs processor time.
"""

import os
import time

import onnxruntime

import penstock as ps

app = ps.App("surge")
ASLEEP = 1e9
"""A row that begins with it puts the model to sleep for the seconds that its second feature says."""


@app.callable(
    "late",
    signature=ps.Signature.of(inputs={"x": "FP32[-1, 30]"}, outputs={"probabilities": "FP32[-1, 2]"}),
    objective=ps.Objective(latency_ms=100),
)
class Late:
    def __init__(self):
        self.session = onnxruntime.InferenceSession(os.environ["BENCH_MODEL_ONNX"])

    def __call__(self, inputs):
        if inputs["x"][0, 0] >= ASLEEP:
            time.sleep(float(inputs["x"][0, 1]))
        (probabilities,) = self.session.run(["probabilities"], inputs)
        return {"probabilities": probabilities}
