"""The real HTTP server and application on a data plane of small models, in a thread of the test's process."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import httpx
import numpy as np

from penstock.core.clock import SystemClock
from penstock.core.errors import InvalidInput, ModelFailed
from penstock.core.settings import ServerSettings
from penstock.core.signature import Signature, TensorSpec
from penstock.core.tensors import Tensors
from penstock.observe.metrics import MetricSet
from penstock.serving.batching.batcher import BatchingConfig
from penstock.serving.cache.prediction_cache import PredictionCache
from penstock.serving.deployment import ServedModel
from penstock.serving.listening import listen
from penstock.serving.plane import DataPlane
from penstock.serving.protocols.http.application import HttpApplication, HttpConfig
from penstock.serving.server import HttpServer

PATIENCE_S = 30.0
R = TypeVar("R")


class FunctionRuntime:
    """A Python function as a runtime."""

    fault = None
    memory_bytes = 0

    def __init__(self, signature: Signature, behave: Callable[[Tensors], Tensors]) -> None:
        self.signature = signature
        self.behave = behave
        self.rows: list[int] = []
        self.gate = threading.Event()
        self.gate.set()

    def run(self, tensors: Tensors, timeout_s: float) -> Tensors:
        self.gate.wait(PATIENCE_S)
        outputs = self.behave(tensors)
        self.rows.append(len(next(iter(tensors.values()))))
        return outputs

    def rest(self, inputs: Tensors) -> None: ...

    def revive(self) -> None: ...

    def close(self) -> None: ...


class _Instance:
    """One process that is ready when its plane is."""

    def __init__(self, plane: DataPlane) -> None:
        self.plane = plane

    @property
    def ready(self) -> bool:
        return self.plane.ready

    async def metrics(self) -> str:
        return ""


def _sum(tensors: Tensors) -> Tensors:
    return {"y": tensors["x"].sum(axis=1, dtype=np.float32)}


def _fare(tensors: Tensors) -> Tensors:
    fare = tensors["distance"] * 2 + np.where(tensors["carrier"] == "AA", 100, 0) + tensors["stops"]
    return {
        "fare": fare.astype(np.float32),
        "label": np.array([f"{text}!" for text in tensors["carrier"]], dtype=object),
        "parts": np.stack([tensors["distance"], fare.astype(np.float32)], axis=1),
    }


def _picky(tensors: Tensors) -> Tensors:
    x = tensors["x"]
    if (x > 100).any():
        raise InvalidInput("x is above 100", where="x")
    if (x < 0).any():
        raise ModelFailed("x is below 0")
    return {"y": 2 * x}


FARE = Signature(
    inputs=(
        TensorSpec.parse("distance", "FP32?[-1]"),
        TensorSpec(name="carrier", datatype=TensorSpec.parse("c", "STRING[-1]").datatype, shape=(-1,),
                   categories=("AA", "B6", "Zürich Air")),
        TensorSpec.parse("stops", "INT16[-1]"),
    ),
    outputs=Signature.of(
        inputs={"x": "FP32[-1]"}, outputs={"fare": "FP32[-1]", "label": "STRING[-1]", "parts": "FP32[-1, 2]"}
    ).outputs,
)  # fmt: skip
MODELS: Mapping[str, tuple[Signature, Callable[[Tensors], Tensors]]] = {
    "sum": (Signature.of(inputs={"x": "FP32[-1, 3]"}, outputs={"y": "FP32[-1]"}), _sum),
    "fare": (FARE, _fare),
    "picky": (Signature.of(inputs={"x": "INT64[-1]"}, outputs={"y": "INT64[-1]"}), _picky),
    "image": (
        Signature.of(inputs={"pixels": "UINT8[-1, 2, 2]"}, outputs={"y": "INT64[-1]"}),
        lambda tensors: {"y": tensors["pixels"].sum(axis=(1, 2), dtype=np.int64)},
    ),
    "bytes": (
        Signature.of(inputs={"x": "BYTES[-1]", "on": "BOOL[-1]"}, outputs={"y": "BYTES[-1]", "on": "BOOL[-1]"}),
        lambda tensors: {
            "y": np.array([each[::-1] for each in tensors["x"]], dtype=object),
            "on": ~tensors["on"].astype(bool),
        },
    ),
}


class PlaneServer:
    """A server with its plane, for tests that reach into both."""

    def __init__(self, settings: ServerSettings) -> None:
        self.loop = asyncio.new_event_loop()
        self.metrics = MetricSet()
        self.plane = DataPlane(self.metrics, SystemClock(), cache=PredictionCache(1 << 24, self.metrics))
        self.runtimes: dict[tuple[str, str], FunctionRuntime] = {}
        config = HttpConfig(name="penstock", version="1.2.3", request_timeout_s=PATIENCE_S)
        application = HttpApplication(self.plane, _Instance(self.plane), self.metrics, config)  # type: ignore[arg-type]
        listener = listen("127.0.0.1", 0)
        self.port = int(listener.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self.server = HttpServer(application, listener, settings, SystemClock(), self.metrics)

    def call(self, coroutine: Coroutine[Any, Any, R]) -> R:
        """Runs it in the server's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(PATIENCE_S)

    def add(self, model: str, version: str = "1", **further: Any) -> FunctionRuntime:
        """Serves one of `MODELS`."""
        batching = {
            "rows_max": 64,
            "queue_rows_max": 4096,
            "queue_bytes_max": 1 << 26,
            "objective_s": PATIENCE_S,
        }
        batching |= further.pop("batching", {})
        signature, behave = MODELS[model]
        runtime = self.runtimes[model, version] = FunctionRuntime(signature, behave)
        served = ServedModel(
            model=model, version=version, platform="python", runtime=runtime,
            batching=BatchingConfig(**batching), **further,
        )  # fmt: skip

        async def add() -> None:
            self.plane.add(served)

        self.call(add())
        return runtime

    def remove(self, model: str, version: str) -> None:
        """Serves it no more, without waiting for what it took on."""

        async def remove() -> None:
            self._closing = asyncio.ensure_future(self.plane.remove(model, version))
            await asyncio.sleep(0)

        self.call(remove())

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=PATIENCE_S, trust_env=False, **options)


@contextmanager
def plane_server(*models: str, settings: ServerSettings | None = None) -> Iterator[PlaneServer]:
    """A server of some of `MODELS`, on a free port."""
    server = PlaneServer(settings or ServerSettings(port=0))
    thread = threading.Thread(target=server.loop.run_forever, daemon=True)
    thread.start()
    try:
        server.call(server.server.start())
        server.plane.accept()
        for model in models:
            server.add(model)
        yield server
    finally:
        for runtime in server.runtimes.values():
            runtime.gate.set()
        server.loop.call_soon_threadsafe(server.server.abort)
        server.call(server.server.stop())
        server.call(server.plane.close())
        server.loop.call_soon_threadsafe(server.loop.stop)
        thread.join(PATIENCE_S)
        server.loop.close()
