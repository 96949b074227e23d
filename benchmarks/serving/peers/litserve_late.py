"""LitServe, its batching on, one inference worker and one API server, ZeroMQ between them."""

import os
import sys

import litserve as ls
import numpy as np
import onnxruntime as ort


class LateAPI(ls.LitAPI):
    def setup(self, device: str) -> None:  # noqa: ARG002 - LitServe calls it so
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(
            os.environ["BENCH_MODEL_ONNX"], options, providers=["CPUExecutionProvider"]
        )

    def decode_request(self, request: dict) -> list[float]:
        return request["features"]

    def batch(self, inputs: list[list[float]]) -> np.ndarray:
        return np.asarray(inputs, dtype=np.float32)

    def predict(self, x: np.ndarray) -> np.ndarray:
        return self.session.run(["probabilities"], {"x": x})[0][:, 1]

    def unbatch(self, output: np.ndarray) -> list[float]:
        return output.tolist()

    def encode_response(self, output: float) -> dict[str, float]:
        return {"probability": output}


if __name__ == "__main__":
    api = LateAPI(max_batch_size=64, batch_timeout=0.001)
    server = ls.LitServer(api, accelerator="cpu", workers_per_device=1, fast_queue=True)
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=1,
        log_level="warning",
        access_log=False,
        generate_client_file=False,
    )
