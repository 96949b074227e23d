"""Ray Serve, `serve.batch` on, one replica, throughput settings on (by environment), no dashboard."""

import os
import sys
import time

import numpy as np
import onnxruntime as ort
import ray
from ray import serve
from starlette.requests import Request


@serve.deployment(num_replicas=1, max_ongoing_requests=256, ray_actor_options={"num_cpus": 0})
class Late:
    def __init__(self, model: str) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.001)
    async def predict(self, rows: list[list[float]]) -> list[float]:
        x = np.asarray(rows, dtype=np.float32)
        return self.session.run(["probabilities"], {"x": x})[0][:, 1].tolist()

    async def __call__(self, request: Request) -> dict[str, float]:
        asked = await request.json()
        return {"probability": await self.predict(asked["features"])}


def stay_on_loopback() -> None:
    """Run first in every worker process: the gRPC server of a replica has no setting for its address.

    It would listen on every interface of the machine; a benchmark must not.
    """
    from ray.serve._private import replica

    listen = replica.add_port_to_grpc_server
    replica.add_port_to_grpc_server = lambda server, address: listen(
        server, address.replace("[::]:", "127.0.0.1:")
    )


def main(port: int) -> None:
    ray.init(
        num_cpus=1,
        include_dashboard=False,
        object_store_memory=100 * 2**20,
        log_to_driver=False,
        runtime_env={"worker_process_setup_hook": stay_on_loopback},
        _temp_dir=os.environ["TMPDIR"],
    )
    serve.start(http_options={"host": "127.0.0.1", "port": port}, logging_config={"enable_access_log": False})
    serve.run(Late.bind(os.environ["BENCH_MODEL_ONNX"]), name="late", route_prefix="/")
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    main(int(sys.argv[1]))
