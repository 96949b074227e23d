"""What a supervisor and its workers tell each other, as MessagePack."""

from typing import Any

import msgspec

from penstock.core.settings import Settings
from penstock.observe.snapshot import MetricFamily
from penstock.serving.admission.rates.rule import RateRule
from penstock.serving.statistics import DeploymentStatistics
from penstock.streams.worker_config import PartitionStatus

__all__ = [
    "Answer",
    "Applied",
    "Ask",
    "Declared",
    "Drain",
    "Failed",
    "FromWorker",
    "InstanceReady",
    "LoadedModel",
    "Pinned",
    "Ready",
    "Report",
    "Retire",
    "Sample",
    "Start",
    "ToWorker",
    "Wanted",
]


class Pinned(msgspec.Struct, frozen=True, order=True):
    """A version that clients asked for by name; "" is whatever the model's route says."""

    model: str
    version: str


class Wanted(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What clients asked to be served beside (`loaded`) or instead of (`unloaded`) what the app declares,
    and which versions need not be kept to be switched back to (`dropped`).

    Of two orders the one with the higher `revision` holds. A worker tells with `Applied` when it is so.
    """

    revision: int = 0
    loaded: tuple[Pinned, ...] = ()
    unloaded: tuple[str, ...] = ()
    dropped: tuple[Pinned, ...] = ()


class Start(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The first message to a worker: what it is to be. `grpc_port` is -1 where there is no gRPC."""

    number: int
    app: str
    settings: Settings
    grpc_port: int
    wanted: Wanted
    standing: dict[str, str] = {}
    """By model: the version that workers have answered with, for where the wanted one is not to be had."""


class Sample(msgspec.Struct, frozen=True, tag=True):
    """Report now; the report answers `request`."""

    request: int


class InstanceReady(msgspec.Struct, frozen=True, tag=True):
    """Whether the workers together are ready."""

    ready: bool


class Retire(msgspec.Struct, frozen=True, tag=True):
    """Say that you are not ready, and go on answering."""


class Drain(msgspec.Struct, frozen=True, tag=True):
    """Accept nothing more, finish what was taken on, and end.

    For `linger_s` connections without a request stay open, and the next answer on each is its last: a request
    that is under way to it meanwhile is answered.
    """

    linger_s: float = 0.0


class Answer(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What a worker asked for, or the error that it is to raise."""

    request: int
    result: Any = None
    error: str | None = None
    message: str = ""
    hint: str | None = None


ToWorker = Start | Sample | InstanceReady | Retire | Drain | Answer | Wanted


class Ready(msgspec.Struct, frozen=True, tag=True):
    """All that is wanted stands; it accepts from now on. `lines` say what it serves, for people."""

    lines: tuple[str, ...]
    revision: int
    """Of the orders that it knows."""
    streams: bool = False
    """Whether the app has streams, for which there have to be workers of their own."""


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """It cannot start, and why; it ends now."""

    message: str
    hint: str | None = None


class LoadedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A version that a worker has loaded. `default` says that it answers for its model."""

    model: str
    version: str
    platform: str
    default: bool
    memory_bytes: int
    fault: str | None = None
    pid: int | None = None
    """The process that the model runs in, where that is one of its own."""


class Declared(msgspec.Struct, frozen=True, kw_only=True):
    """What limits can be about in an app file: its models and tenants by name; and the limits in it."""

    models: tuple[str, ...] = ()
    tenants: tuple[str, ...] = ()
    limits: tuple[RateRule, ...] = ()


class Report(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """How a worker is. It sends one a second, and one for each `Sample`."""

    request: int | None = None
    ready: bool
    connections: int
    resident_bytes: int
    models: tuple[LoadedModel, ...]
    problems: dict[str, str]
    """By model: why what is wanted of it is not what is served."""
    metrics: tuple[MetricFamily, ...]
    statistics: tuple[DeploymentStatistics, ...]
    declared: Declared = Declared()
    streams: tuple[PartitionStatus, ...] = ()
    """The partitions of streams that it has."""


class Ask(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A client of the worker asks something of the whole instance."""

    request: int
    verb: str
    model: str = ""
    version: str | None = None


class Applied(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """It serves what `Wanted` with this revision asks for, or says why it cannot."""

    revision: int
    error: str | None = None
    message: str = ""
    hint: str | None = None


FromWorker = Ready | Failed | Report | Ask | Applied
