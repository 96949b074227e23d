"""The systems under test: how each is started, where it is asked, and in which dialect."""

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.harness.processes import free_ports
from benchmarks.serving.dialects import BentoRows, Dialect, EchoedV2, Features, V2Binary, V2Json
from benchmarks.serving.model import ModelFiles

__all__ = ["Kind", "Launch", "Setting", "System", "systems"]

HERE = Path(__file__).parent
PEERS = HERE / "peers"


class Kind(enum.Enum):
    SUBJECT = "subject"
    PEER = "peer"
    LIMIT = "limit"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a start may use: its port, the interpreter of its environment, the model, folders for its state."""

    port: int
    python: Path
    model: ModelFiles
    home: Path
    """Kept between starts: a registry with the model pushed into it."""

    def tool(self, name: str) -> str:
        """A command that is installed in the same environment."""
        return str(self.python.parent / name)


@dataclass(frozen=True, kw_only=True)
class Launch:
    """What to run."""

    command: list[str]
    folder: Path = HERE
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class System:
    """A server that answers `path` in `dialect`, from an environment (None: the one of the benchmark)."""

    name: str
    title: str
    kind: Kind
    environment: str | None
    packages: tuple[str, ...]
    path: str
    dialect: Dialect
    launch: Callable[[Setting], Launch]
    start_s_max: float = 30.0
    starts_wide: bool = False
    """Started on both cores and held to one after its first answer: it is too many processes for one."""

    @property
    def requirements(self) -> Path | None:
        return None if self.environment is None else PEERS / f"requirements-{self.environment}.txt"


def _penstock(at: Setting) -> Launch:
    return Launch(
        command=[at.tool("penstock"), "run", str(HERE / "app.py"), "--port", str(at.port)],
        environment={"PENSTOCK_HOME": str(at.home)},
    )


def _limit(name: str) -> Callable[[Setting], Launch]:
    def launch(at: Setting) -> Launch:
        return Launch(command=[str(at.python), str(HERE / "limits" / f"{name}.py"), str(at.port)])

    return launch


def _uvicorn(module: str) -> Callable[[Setting], Launch]:
    def launch(at: Setting) -> Launch:
        options = ["--host", "127.0.0.1", "--port", str(at.port), "--loop", "uvloop", "--http", "httptools"]
        options += ["--no-access-log", "--log-level", "warning", "--workers", "1"]
        command = [str(at.python), "-m", "uvicorn", f"{module}:app", *options]
        return Launch(command=command, folder=PEERS)

    return launch


def _script(name: str, environment: Mapping[str, str] | None = None) -> Callable[[Setting], Launch]:
    def launch(at: Setting) -> Launch:
        command = [str(at.python), str(PEERS / name), str(at.port)]
        return Launch(command=command, folder=PEERS, environment=environment or {})

    return launch


def _bentoml(at: Setting) -> Launch:
    options = ["--host", "127.0.0.1", "--port", str(at.port)]
    return Launch(
        command=[at.tool("bentoml"), "serve", "bentoml_late:Late", *options],
        folder=PEERS,
        environment={"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": str(at.home / "bentoml")},
    )


def _mlserver(at: Setting) -> Launch:
    (grpc_port,) = free_ports(1)
    return Launch(
        command=[at.tool("mlserver"), "start", str(PEERS / "mlserver")],
        folder=PEERS / "mlserver",
        environment={
            "MLSERVER_HTTP_PORT": str(at.port),
            "MLSERVER_GRPC_PORT": str(grpc_port),
            "PYTHONPATH": str(PEERS / "mlserver"),
        },
    )


RAY_ENVIRONMENT = {
    # Despite its name: off, it keeps Ray on the loopback address on Linux too.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    # Workers run at niceness 15 unless told otherwise, and would yield to anything else on the core.
    "RAY_worker_niceness": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_ENABLE_DIRECT_INGRESS": "0",
}

_OURS = ("penstock", "httptools", "uvloop", "onnxruntime", "numpy")
_ASGI = ("fastapi", "uvicorn", "uvloop", "pydantic")

PEER_SYSTEMS: tuple[System, ...] = (
    System(
        name="fastapi_sklearn",
        title="FastAPI + scikit-learn",
        kind=Kind.PEER,
        environment="fastapi",
        packages=(*_ASGI, "scikit-learn"),
        path="/predict",
        dialect=Features(),
        launch=_uvicorn("fastapi_sklearn"),
    ),
    System(
        name="fastapi_onnx",
        title="FastAPI + ONNX Runtime",
        kind=Kind.PEER,
        environment="fastapi",
        packages=(*_ASGI, "onnxruntime"),
        path="/predict",
        dialect=Features(),
        launch=_uvicorn("fastapi_onnx"),
    ),
    System(
        name="litserve",
        title="LitServe",
        kind=Kind.PEER,
        environment="litserve",
        packages=("litserve", *_ASGI, "onnxruntime"),
        path="/predict",
        dialect=Features(),
        launch=_script("litserve_late.py"),
    ),
    System(
        name="bentoml",
        title="BentoML",
        kind=Kind.PEER,
        environment="bentoml",
        packages=("bentoml", "uvicorn", "uvloop", "pydantic", "onnxruntime"),
        path="/predict",
        dialect=BentoRows(),
        launch=_bentoml,
    ),
    System(
        name="mlserver",
        title="MLServer",
        kind=Kind.PEER,
        environment="mlserver",
        packages=("mlserver", *_ASGI, "onnxruntime"),
        path="/v2/models/late/infer",
        dialect=V2Json(),
        launch=_mlserver,
    ),
    System(
        name="rayserve",
        title="Ray Serve",
        kind=Kind.PEER,
        environment="ray",
        packages=("ray", "uvicorn", "uvloop", "onnxruntime"),
        path="/",
        dialect=Features(),
        launch=_script("rayserve_late.py", RAY_ENVIRONMENT),
        start_s_max=90.0,
        starts_wide=True,
    ),
)


def systems(input_name: str = "x") -> tuple[System, ...]:
    """All systems, Penstock first; `input_name` is what its signature calls the tensor of the 30 floats."""
    return (
        System(
            name="penstock",
            title="Penstock, V2 JSON",
            kind=Kind.SUBJECT,
            environment=None,
            packages=_OURS,
            path="/v2/models/late/infer",
            dialect=V2Json(input_name),
            launch=_penstock,
        ),
        System(
            name="penstock_binary",
            title="Penstock, V2 binary",
            kind=Kind.SUBJECT,
            environment=None,
            packages=_OURS,
            path="/v2/models/late/infer",
            dialect=V2Binary(input_name),
            launch=_penstock,
        ),
        System(
            name="granian_echo",
            title="limit: Granian RSGI echo",
            kind=Kind.LIMIT,
            environment="granian",
            packages=("granian", "uvloop"),
            path="/",
            dialect=EchoedV2(),
            launch=_limit("granian_echo"),
        ),
        System(
            name="uvloop_echo",
            title="limit: uvloop and httptools echo",
            kind=Kind.LIMIT,
            environment=None,
            packages=("uvloop", "httptools"),
            path="/",
            dialect=EchoedV2(),
            launch=_limit("uvloop_echo"),
        ),
        *PEER_SYSTEMS,
    )
