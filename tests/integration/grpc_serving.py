"""A gRPC server over a real data plane, in this process: its event loop runs in a thread of its own."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np
import uvloop

from penstock.core.clock import SystemClock
from penstock.core.errors import Forbidden, ModelFailed
from penstock.core.signature import Signature
from penstock.core.tensors import Tensors
from penstock.observe.metrics import MetricSet
from penstock.serving.batching.batcher import BatchingConfig
from penstock.serving.deployment import ServedModel
from penstock.serving.instance import ModelState, RepositoryEntry
from penstock.serving.plane import DataPlane
from penstock.serving.protocols.grpc.libraries import load_messages
from penstock.serving.protocols.grpc.server import GrpcConfig, GrpcServer
from penstock.serving.statistics import DeploymentStatistics

PATIENCE_S = 20.0
MESSAGES = load_messages()
SERVICE = "/inference.GRPCInferenceService/"
NUMBERS = Signature.of(inputs={"x": "FP32[-1, 2]"}, outputs={"y": "FP32[-1, 2]", "sum": "FP32[-1]"})
TEXTS = Signature.of(inputs={"t": "STRING[-1]"}, outputs={"upper": "STRING[-1]"})
MESSAGE_BYTES_MAX = 1_000_000


class Runtime:
    """Runs a function once `gate` is open, and counts."""

    memory_bytes = 0

    def __init__(self, signature: Signature, behave: Callable[[Tensors], Tensors]) -> None:
        self.signature = signature
        self.behave = behave
        self.fault: str | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.began = threading.Semaphore(0)
        self.rows: list[float] = []

    def run(self, tensors: Tensors, timeout_s: float) -> Tensors:
        first = next(iter(tensors.values()))
        self.rows += [value[0] if first.ndim > 1 else value for value in first.tolist()]
        self.began.release()
        assert self.gate.wait(PATIENCE_S)
        return self.behave(tensors)

    def rest(self, inputs: Tensors) -> None: ...

    def revive(self) -> None: ...

    def close(self) -> None: ...


def double(tensors: Tensors) -> Tensors:
    x = tensors["x"]
    if (x == 1013).any():
        raise ModelFailed("thirteen", hint="take another number")
    if (x == 1014).any():
        raise RuntimeError("a secret")
    return {"y": 2 * x, "sum": x.sum(axis=1)}


def upper(tensors: Tensors) -> Tensors:
    return {"upper": np.array([text.upper() for text in tensors["t"].tolist()], dtype=object)}


class Instance:
    """A serve instance of one process that knows two models."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane
        self.asked: list[tuple[str, str, str | None]] = []
        self.broken = False

    @property
    def ready(self) -> bool:
        return self._plane.ready

    async def metrics(self) -> str:
        return ""

    async def statistics(self) -> tuple[DeploymentStatistics, ...]:
        if self.broken:
            raise RuntimeError("a secret")
        return tuple(each.statistics() for each in self._plane.deployments())

    async def index(self) -> tuple[RepositoryEntry, ...]:
        return (
            RepositoryEntry(name="late", version="1", state=ModelState.READY),
            RepositoryEntry(name="late", version="0", state=ModelState.UNAVAILABLE, reason="not wanted"),
        )

    async def load(self, model: str, version: str | None) -> None:
        self.asked.append(("load", model, version))

    async def unload(self, model: str, version: str | None) -> None:
        self.asked.append(("unload", model, version))
        raise Forbidden("models are not unloaded by clients", hint="set server.model_control")


class Serving:
    """The server, and what stands behind it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, config: dict[str, Any], queue_rows_max: int) -> None:
        clock = SystemClock()
        self.loop = loop
        self.metrics = MetricSet()
        self.plane = DataPlane(self.metrics, clock)
        self.instance = Instance(self.plane)
        self.late = Runtime(NUMBERS, double)
        self.words = Runtime(TEXTS, upper)
        settings: dict[str, Any] = {
            "name": "penstock",
            "version": "9",
            "host": "127.0.0.1",
            "port": 0,
            "message_bytes_max": MESSAGE_BYTES_MAX,
            "receiving_bytes_max": 64 * MESSAGE_BYTES_MAX,
            **config,
        }
        self.server = GrpcServer(self.plane, self.instance, self.metrics, clock, GrpcConfig(**settings))
        self.port = self.server.bind()
        self.address = f"127.0.0.1:{self.port}"
        batching = BatchingConfig(
            objective_s=PATIENCE_S, rows_max=100, queue_rows_max=queue_rows_max, queue_bytes_max=2**26
        )
        for model, runtime in (("late", self.late), ("words", self.words)):
            self.plane.add(
                ServedModel(model=model, version="1", platform="test", runtime=runtime, batching=batching)
            )
        self.plane.want(["late"])
        self.plane.accept()

    def do(self, act: Callable[[], Any]) -> Any:
        """Runs a function, or what it gives to await, in the server's loop."""

        async def run() -> Any:
            result = act()
            return await result if asyncio.iscoroutine(result) else result

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(PATIENCE_S)

    def answers(self) -> dict[str, float]:
        """How many there were, by status."""
        found = {}
        for line in self.do(self.metrics.render).splitlines():
            if line.startswith("penstock_grpc_responses_total"):
                name, value = line.split()
                found[name.split('"')[1]] = float(value)
        return found


@contextmanager
def serving(queue_rows_max: int = 10_000, **config: Any) -> Iterator[Serving]:
    """A server that answers."""
    loop = uvloop.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def make() -> Serving:
        served = Serving(loop, config, queue_rows_max)
        await served.server.start()
        return served

    async def end(served: Serving) -> None:
        served.late.gate.set()
        await served.server.stop(1.0)
        await served.plane.close()

    served = asyncio.run_coroutine_threadsafe(make(), loop).result(PATIENCE_S)
    try:
        yield served
    finally:
        asyncio.run_coroutine_threadsafe(end(served), loop).result(PATIENCE_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE_S)
        loop.close()


@contextmanager
def channel(served: Serving, *options: tuple[str, Any]) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(
        served.address, options=(("grpc.use_local_subchannel_pool", 1), *options)
    ) as opened:
        yield opened


def raw_call(opened: grpc.Channel, method: str = "ModelInfer") -> Any:
    """A call that sends and gives bytes."""
    return opened.unary_unary(method if method.startswith("/") else SERVICE + method)


def call(opened: grpc.Channel, method: str, **fields: Any) -> Any:
    """A call by its method and its message's fields; the answer's message."""
    return opened.unary_unary(
        SERVICE + method,
        request_serializer=getattr(MESSAGES, f"{method}Request").SerializeToString,
        response_deserializer=getattr(MESSAGES, f"{method}Response").FromString,
    )(getattr(MESSAGES, f"{method}Request")(**fields), timeout=PATIENCE_S)


def infer_request(*rows: tuple[float, float], model: str = "late", request_id: str = "") -> Any:
    message = MESSAGES.ModelInferRequest(model_name=model, id=request_id)
    message.inputs.add(name="x", datatype="FP32", shape=[len(rows), 2])
    message.raw_input_contents.append(np.array(rows, "<f4").tobytes())
    return message


def numbers(response: Any, name: str = "y") -> list[Any]:
    """An output's values."""
    for output, raw in zip(response.outputs, response.raw_output_contents, strict=True):
        if output.name == name:
            return np.frombuffer(raw, "<f4").reshape(tuple(output.shape)).tolist()
    raise AssertionError(f"no output {name}")


def infer(opened: grpc.Channel, message: Any, timeout: float = PATIENCE_S, **options: Any) -> Any:
    return MESSAGES.ModelInferResponse.FromString(
        raw_call(opened)(message.SerializeToString(), timeout=timeout, **options)
    )


def status_of(error: grpc.RpcError) -> tuple[str, str]:
    return error.code().name, error.details()
