"""Settings: one frozen object, put together from defaults, a file, the environment and flags.

Each is stronger than the one before it. The file is TOML (`penstock.toml`), a key `port` in the table
`[server]` is the variable `PENSTOCK_SERVER_PORT` and the flag `--set server.port=…`.
"""

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from penstock.core.errors import ConfigurationError
from penstock.core.failpoints import FAILPOINT_VARIABLE
from penstock.core.log_settings import KafkaSettings, LogSettings

__all__ = [
    "AdmissionSettings",
    "BatchingSettings",
    "CacheSettings",
    "FeatureSettings",
    "HealthSettings",
    "JobsSettings",
    "KafkaSettings",
    "LimitsSettings",
    "LoadedSettings",
    "LogSettings",
    "RegistrySettings",
    "RuntimeSettings",
    "ServerSettings",
    "Settings",
    "StreamSettings",
    "load_settings",
]

FILE_NAME = "penstock.toml"
FILE_VARIABLE = "PENSTOCK_CONFIG"
VARIABLE_PREFIX = "PENSTOCK_"

# Kubernetes tells each container of each service in its namespace, in the way of Docker's links: one that is
# called penstock, or penstock-server, brings PENSTOCK_SERVICE_HOST, PENSTOCK_PORT=tcp://10.0.0.1:8000,
# PENSTOCK_PORT_8000_TCP_ADDR and more. Nobody set them, so they are neither settings nor mistakes.
_SERVICE_LINK = re.compile(
    r"PENSTOCK_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_SERVICE_URL = re.compile(r"(tcp|udp|sctp)://")

Count = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a serve instance offers to clients, over HTTP and gRPC."""

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535)] = 8000
    """0 takes a free port."""
    grpc_port: Annotated[int, Meta(ge=-1, le=65_535)] = -1
    """Where gRPC is spoken: 0 takes a free port, -1 is no gRPC."""
    workers: Annotated[int, Meta(ge=1, le=256)] = 1
    """Processes that share the port. Each has its own copy of the models."""
    model_control: bool = False
    """Whether clients may load and unload models, by V2's repository extension."""
    cors_origins: str = ""
    """Origins whose web pages may ask, with commas between them; `*` for all."""
    compress_bytes_min: Annotated[int, Meta(ge=0)] = 1024 * 1024
    """Answers of so many bytes and more are compressed for clients that accept it. On a network of 1 Gb/s gzip
    takes longer than sending what it saves; on slower ones less is worth it."""
    connections_max: Count = 16_384
    """Open connections, busy or idle. One past it is refused with 503."""
    head_bytes_max: Count = 32 * 1024
    body_bytes_max: Count = 16 * 1024 * 1024
    receiving_bytes_max: Count = 1024 * 1024 * 1024
    """The bodies of all requests that are received and not answered yet; one past it is refused with 503."""
    receive_timeout_s: Seconds = 30.0
    """How long a client may take to send a request, or to read an answer."""
    keep_alive_s: Seconds = 120.0
    """How long a connection may be idle between requests."""
    request_timeout_s: Seconds = 30.0
    """The deadline of a request that does not bring one."""
    grace_s: Annotated[float, Meta(ge=0, le=3600)] = 2.0
    """How long after SIGTERM it still accepts and answers, while it says that it is not ready: load balancers
    have to notice. Ctrl-C does not wait."""
    drain_s: Annotated[float, Meta(ge=0, le=3600)] = 30.0
    """How long requests that were taken on may still run once nothing more is accepted."""


class BatchingSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Micro-batching, for each version that is served."""

    rows_max: Count = 1024
    """Rows in one run of a model. A request of more rows runs in parts."""
    queue_rows_max: Count = 65_536
    queue_bytes_max: Count = 256 * 1024 * 1024


class AdmissionSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What is taken on under pressure."""

    enabled: bool = True
    """Whether what could not be answered in time is refused at once. Without it, all that the queue holds is
    taken on, and under overload nearly all of it is answered too late."""
    critical_plus: str = "*"
    """Tenants of the app, with commas between them, that may name the class CRITICAL_PLUS; `*` for anybody.
    Others' requests that do count as CRITICAL."""


class CacheSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The prediction cache, for models that have one."""

    bytes_max: Annotated[int, Meta(ge=1024 * 1024)] = 64 * 1024 * 1024
    """What the answers that a serving process keeps may take, those of all its models together."""


class FeatureSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What is served to models as features."""

    served_log: bool = True
    """Whether what was read for a prediction is recorded, in the topic `APP.MODEL.served`."""
    served_retention_s: Annotated[float, Meta(gt=0)] = 30 * 86_400.0
    """How long that is kept. Of a topic that is there already, what it was made with holds."""
    held_bytes_max: Annotated[int, Meta(ge=0)] = 64 * 1024 * 1024
    """What each model of a process may hold in memory of each view that it reads."""


class LimitsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Whom rate limits take a request to be from."""

    trusted_proxies: str = ""
    """Addresses and networks, with commas between them, whose `x-forwarded-for` and `x-request-start` count."""
    trust_keys: bool = False
    """Whether an API key that the app does not know is a tenant of its own. Only where something in front of
    the server checks keys: anybody can make some up."""


class RuntimeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What executes versions."""

    onnx_threads: Count = 1
    """Threads within one run of an ONNX model."""
    start_timeout_s: Seconds = 60.0
    """How long the process of a native or Python model may take to load it."""
    run_timeout_s: Seconds = 60.0
    """How long one run of a native or Python model may take before its process is ended."""
    niceness: Annotated[int, Meta(ge=0, le=19)] = 5
    """How far the processes of native and Python models stand back behind the server's where the processor is
    short, in steps of nice(1): a server that falls behind makes everybody late. Others go ahead of them too."""
    memory_bytes_max: Count = 4 * 1024 * 1024 * 1024
    """What the models that a serving process has loaded may hold together. Versions that no route wants any
    more stay loaded within it, ready to be switched back to; the one not asked for longest goes first."""


class HealthSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How versions are checked on their golden rows while they serve."""

    every_s: Annotated[float, Meta(ge=0, le=86_400)] = 30.0
    """About how often; 0 is never. A model's own declaration is stronger."""
    failures_max: Count = 3
    """So many failures in a row take a version out: the last good one answers in its place."""
    runtime_share: Annotated[float, Meta(gt=0, le=1)] = 0.01
    """Checks take at most so much of a runtime's time: slow ones come more seldom."""


class StreamSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What processes streams."""

    workers: Annotated[int, Meta(ge=1, le=256)] = 1
    """Processes that share the partitions of the app's streams among them. One without a partition is idle."""
    batch_ms: Annotated[float, Meta(gt=0, le=60_000)] = 100.0
    """How long a micro-batch should take: longer ones cost less for each event, and come later."""
    rows_max: Annotated[int, Meta(ge=1, le=1_000_000)] = 50_000
    """Events in a micro-batch, at most."""
    bytes_max: Annotated[int, Meta(ge=1, le=1024 * 1024 * 1024)] = 16 * 1024 * 1024
    function_timeout_s: Seconds = 30.0
    """A micro-batch that takes longer hangs: the process ends, and what it hangs on is found and set aside."""
    snapshot_every_s: Seconds = 60.0
    snapshot_bytes: Count = 64 * 1024 * 1024
    """So many bytes of changes, or so much time, after a snapshot of the state there is another one."""


class JobsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Requests that are acknowledged first and answered later."""

    queued_max: Count = 100_000
    """Jobs that may wait, about, and those of one tenant; one past it is refused with 503."""
    tenant_queued_max: Count = 50_000
    waits_s_max: Annotated[float, Meta(gt=0, le=2_592_000)] = 604_800.0
    """A job that does not say how long it may wait expires after that."""
    running_max: Annotated[int, Meta(ge=1, le=4096)] = 64
    """Jobs that a serving process runs at once, as far as requests leave room for them."""
    attempts_max: Count = 5
    """How often a job is tried, and how often it may lose its process; no room for it is neither."""
    retry_first_s: Seconds = 1.0
    """The pause after the first attempt that failed; each further one doubles it."""
    retry_longest_s: Seconds = 60.0
    run_timeout_s: Seconds = 60.0
    """How long one attempt may take, with the time that it waits for its model."""
    lease_s: Annotated[float, Meta(ge=1, le=3600)] = 10.0
    """A process that gives no sign of life for so long loses its jobs to others. The same in all processes."""
    poll_s: Annotated[float, Meta(gt=0, le=60)] = 0.5
    """How often a process looks for jobs that others have taken on."""
    result_ttl_s: Annotated[float, Meta(gt=0, le=2_592_000)] = 86_400.0
    """How long what became of a job is kept, and its idempotency key."""
    result_bytes_max: Annotated[int, Meta(ge=1, le=900_000_000)] = 64 * 2**20
    """What is longer is not kept: the job has failed."""
    webhook_secret: str = ""
    """What webhooks are signed with: `whsec_` and 24 to 64 bytes in base64. Without one there are none."""
    webhook_networks_allowed: str = ""
    """Networks inside, with commas between them, that webhooks may be in."""
    webhook_attempts: Count = 12
    """How often a webhook is tried: 12 take about half an hour."""
    webhook_timeout_s: Annotated[float, Meta(gt=0, le=25)] = 5.0

    def __repr__(self) -> str:
        """Without the secret."""
        shown = {each.name: getattr(self, each.name) for each in msgspec.structs.fields(self)}
        shown["webhook_secret"] = "***" if self.webhook_secret else ""
        return f"JobsSettings({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


class RegistrySettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where models are kept."""

    poll_s: Annotated[float, Meta(gt=0, le=3600)] = 0.5
    """How often a running server looks whether an alias has moved."""
    database: str = ""
    """An SQLAlchemy URL; empty: SQLite in the home folder."""
    artifacts: str = ""
    """A folder; empty: `artifacts` in the home folder."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All of Penstock's settings."""

    home: str = ".penstock"
    """The folder in which this project's state is kept."""
    log_level: Annotated[str, Meta(pattern="^(debug|info|warning|error)\\Z")] = "info"
    server: ServerSettings = msgspec.field(default_factory=ServerSettings)
    batching: BatchingSettings = msgspec.field(default_factory=BatchingSettings)
    admission: AdmissionSettings = msgspec.field(default_factory=AdmissionSettings)
    limits: LimitsSettings = msgspec.field(default_factory=LimitsSettings)
    cache: CacheSettings = msgspec.field(default_factory=CacheSettings)
    features: FeatureSettings = msgspec.field(default_factory=FeatureSettings)
    runtime: RuntimeSettings = msgspec.field(default_factory=RuntimeSettings)
    health: HealthSettings = msgspec.field(default_factory=HealthSettings)
    registry: RegistrySettings = msgspec.field(default_factory=RegistrySettings)
    log: LogSettings = msgspec.field(default_factory=LogSettings)
    kafka: KafkaSettings = msgspec.field(default_factory=KafkaSettings)
    jobs: JobsSettings = msgspec.field(default_factory=JobsSettings)
    stream: StreamSettings = msgspec.field(default_factory=StreamSettings)

    @property
    def database_url(self) -> str:
        return self.registry.database or f"sqlite:///{Path(self.home) / 'control.db'}"

    @property
    def artifacts_folder(self) -> Path:
        return Path(self.registry.artifacts) if self.registry.artifacts else Path(self.home) / "artifacts"


class LoadedSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings, and for each dotted key the place its value came from."""

    settings: Settings
    origins: dict[str, str]

    def rows(self) -> Iterator[tuple[str, object, str]]:
        """(dotted key, value, where it came from), in the order of declaration."""
        for key in self.origins:
            value: Any = self.settings
            for part in key.split("."):
                value = getattr(value, part)
            yield key, value, self.origins[key]


def load_settings(
    *, file: Path | None, environment: Mapping[str, str], flags: Mapping[str, object]
) -> LoadedSettings:
    """Settings from a file (None: `PENSTOCK_CONFIG`, else `penstock.toml` if there is one), environment, flags.

    `flags` maps dotted keys to values. Raises `ConfigurationError` for a file that is missing or no TOML,
    an unknown key (with the nearest known one) and a value that does not fit its key.
    """
    keys = list(_keys(Settings))
    values: dict[str, object] = {}
    origins = dict.fromkeys(keys, "default")
    path = _settings_file(file, environment)
    sources = [
        *([(str(path), _read_file(path))] if path is not None else []),
        ("environment", _read_environment(environment, keys)),
        ("flag", dict(flags)),
    ]
    for origin, found in sources:
        for key, value in found.items():
            if key not in origins:
                raise _unknown_key(key, keys, origin)
            values[key] = value
            origins[key] = f"{origin} {_variable(key)}" if origin == "environment" else origin
    return LoadedSettings(settings=_build(values, origins), origins=origins)


def _keys(struct: type[msgspec.Struct], prefix: str = "") -> Iterator[str]:
    for field in msgspec.structs.fields(struct):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield from _keys(field.type, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}"


def _settings_file(file: Path | None, environment: Mapping[str, str]) -> Path | None:
    named = file or (Path(environment[FILE_VARIABLE]) if environment.get(FILE_VARIABLE) else None)
    if named is not None:
        return named
    return Path(FILE_NAME) if Path(FILE_NAME).is_file() else None


def _read_file(path: Path) -> dict[str, object]:
    try:
        with path.open("rb") as stream:
            return dict(_flatten(tomllib.load(stream)))
    except OSError as error:
        raise ConfigurationError(
            f"settings file {path}: {error.strerror}", hint="name another one with --config or PENSTOCK_CONFIG"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"settings file {path} is not TOML: {error}") from error


def _flatten(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _variable(key: str) -> str:
    return VARIABLE_PREFIX + key.upper().replace(".", "_")


def _read_environment(environment: Mapping[str, str], keys: list[str]) -> dict[str, object]:
    by_variable = {_variable(key): key for key in keys}
    found: dict[str, object] = {}
    for variable, value in environment.items():
        if not variable.startswith(VARIABLE_PREFIX) or variable in (FILE_VARIABLE, FAILPOINT_VARIABLE):
            continue
        if _is_service_link(variable, value):
            continue
        if variable not in by_variable:
            raise _unknown_key(variable, [*by_variable], "environment")
        found[by_variable[variable]] = value
    return found


def _is_service_link(variable: str, value: str) -> bool:
    if variable.endswith("_PORT") and _SERVICE_URL.match(value):
        return True
    return _SERVICE_LINK.fullmatch(variable) is not None


def _unknown_key(key: str, known: list[str], origin: str) -> ConfigurationError:
    nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
    return ConfigurationError(
        f"unknown setting {key!r} ({origin})",
        hint=f"did you mean {nearest[0]!r}? `penstock config show` lists all of them",
    )


def _build(values: dict[str, object], origins: dict[str, str]) -> Settings:
    tree: dict[str, Any] = {}
    for key, value in values.items():
        *tables, name = key.split(".")
        table = tree
        for part in tables:
            table = table.setdefault(part, {})
        table[name] = value
    try:
        # Not strict: variables and `--set` bring numbers as text.
        return msgspec.convert(tree, Settings, strict=False)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$.")
        key = where.rstrip("`")
        raise ConfigurationError(
            f"setting {key!r} = {values.get(key)!r} ({origins.get(key, 'file')}): {what[:1].lower()}{what[1:]}"
        ) from error
