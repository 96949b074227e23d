"""The gRPC server of a `serve` process. It runs in the same event loop as the HTTP server."""

import asyncio
import errno
import logging
import socket
from typing import Any

import msgspec

from penstock.core.clock import Clock
from penstock.core.errors import ConfigurationError
from penstock.observe.metrics import MetricSet
from penstock.serving.instance import Instance
from penstock.serving.plane import DataPlane
from penstock.serving.protocols.grpc.answers import Answers
from penstock.serving.protocols.grpc.health import Health
from penstock.serving.protocols.grpc.inference import Inference
from penstock.serving.protocols.grpc.libraries import load_libraries, load_messages
from penstock.serving.protocols.grpc.management import Management
from penstock.serving.protocols.grpc.methods import Methods
from penstock.serving.protocols.grpc.receiver import Receiver
from penstock.serving.protocols.grpc.streaming import Streaming

__all__ = ["GrpcConfig", "GrpcServer"]

log = logging.getLogger(__name__)

CHECK_EVERY_S = 1.0
STREAMS_PER_CONNECTION_MAX = 1024
PING_EVERY_MS = 60_000
"""How often a silent client is asked whether it is still there."""
PING_TIMEOUT_MS = 20_000
"""After how long without an answer it is taken to be gone."""
CLIENT_PINGS_MIN_MS = 10_000
"""A client that asks more often than that is told to calm down, and disconnected."""


class GrpcConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What a server offers, and what clients may take.

    `port` 0 takes a free one. `shared` lets other processes listen on the same port, of which the system gives
    each some of the connections; without it, a port that anybody listens on is taken. `request_timeout_s` is
    the deadline of requests that bring none, `receive_timeout_s` the time a message may take to arrive,
    `keep_alive_s` the time a connection may be without calls.
    """

    name: str
    version: str
    host: str
    port: int
    shared: bool = False
    calls_max: int = 16_384
    message_bytes_max: int = 16 * 1024 * 1024
    receiving_bytes_max: int = 1024 * 1024 * 1024
    request_timeout_s: float = 30.0
    receive_timeout_s: float = 30.0
    keep_alive_s: float = 120.0


class GrpcServer:
    """Listens, and answers from the data plane until it is stopped. Made and used in the event loop."""

    def __init__(
        self, plane: DataPlane, instance: Instance, metrics: MetricSet, clock: Clock, config: GrpcConfig
    ) -> None:
        """Raises `ConfigurationError` where the libraries for gRPC are not installed."""
        libraries = load_libraries()
        messages = load_messages()
        answers = Answers(metrics)
        self._config = config
        self._receiver = Receiver(
            clock, timeout_s=config.receive_timeout_s, bytes_max=config.receiving_bytes_max
        )
        inference = Inference(plane, self._receiver, answers, messages, clock, config.request_timeout_s)
        self._streaming = Streaming(inference, self._receiver, answers, messages, clock)
        self._health = Health(instance, self._receiver, libraries.health_messages)
        management = Management(
            plane, instance, self._health, messages, name=config.name, version=config.version
        )
        methods = Methods(libraries, messages, self._receiver, answers)
        methods.add_inference(inference, self._streaming)
        methods.add_management(management)
        methods.add_health(self._health)
        methods.add_reflection()
        metrics.gauge(
            "penstock_grpc_receiving_bytes",
            "gRPC messages that are received and not answered.",
            lambda: self._receiver.used_bytes,
        )
        self._server: Any = libraries.grpc.aio.server(
            handlers=[methods], options=_options(config), maximum_concurrent_rpcs=config.calls_max
        )
        self._port: int | None = None
        self._started = False
        self._checking: asyncio.TimerHandle | None = None
        self._aborting: asyncio.Task[None] | None = None

    @property
    def address(self) -> str:
        """Where it listens; the port is known once `bind` was called."""
        return _address(self._config.host, self._port if self._port is not None else self._config.port)

    def bind(self) -> int:
        """Takes the address; the port. Raises `ConfigurationError` where it cannot be had."""
        config = self._config
        try:
            port: int = self._server.add_insecure_port(_address(config.host, config.port))
        except RuntimeError as error:
            raise _unavailable(config) from error
        self._port = port
        return port

    async def start(self) -> None:
        """Answers calls from now on."""
        assert self._port is not None, "bind first"
        await self._server.start()
        self._started = True
        self._check()

    def retire(self) -> None:
        """Health says that it does not serve any more, while it still answers."""
        self._health.retire()

    async def stop(self, grace_s: float) -> None:
        """Takes no new calls; returns when those that were taken on are answered, or `grace_s` has passed."""
        self._health.close()
        self._streaming.close()
        self._receiver.close()
        self._stop_checking()
        if not self._started and self._port is not None:
            # What gRPC has never served on it does not give back.
            await self._server.start()
        await self._server.stop(grace_s)

    def abort(self) -> None:
        """Ends what is left, answered or not, as soon as the event loop gets to it."""
        self._stop_checking()
        if self._started and self._aborting is None:
            self._aborting = asyncio.get_running_loop().create_task(self._server.stop(None))

    def _check(self) -> None:
        self._receiver.check()
        self._checking = asyncio.get_running_loop().call_later(CHECK_EVERY_S, self._check)

    def _stop_checking(self) -> None:
        if self._checking is not None:
            self._checking.cancel()
            self._checking = None


def _options(config: GrpcConfig) -> tuple[tuple[str, int], ...]:
    return (
        ("grpc.so_reuseport", int(config.shared)),
        ("grpc.max_receive_message_length", config.message_bytes_max),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_concurrent_streams", STREAMS_PER_CONNECTION_MAX),
        ("grpc.max_connection_idle_ms", round(config.keep_alive_s * 1000)),
        ("grpc.keepalive_time_ms", PING_EVERY_MS),
        ("grpc.keepalive_timeout_ms", PING_TIMEOUT_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", CLIENT_PINGS_MIN_MS),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", CLIENT_PINGS_MIN_MS),
    )


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _unavailable(config: GrpcConfig) -> ConfigurationError:
    """The error for an address that gRPC could not take. It does not say why, so a socket is asked."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    hint = "take another with server.grpc_port, or 0 for a free one"
    reason = "gRPC could not listen there"
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            if config.shared:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            probe.bind((config.host, config.port))
            probe.listen()
    except (OSError, OverflowError) as error:
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            return ConfigurationError(f"port {config.port} on {config.host} is in use (gRPC)", hint=hint)
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        if isinstance(error, socket.gaierror) or getattr(error, "errno", 0) == errno.EADDRNOTAVAIL:
            hint = (
                "the host is not an address of this machine; try --host 127.0.0.1, or 0.0.0.0 for all of them"
            )
        elif getattr(error, "errno", 0) == errno.EACCES:
            hint = "ports under 1024 need rights; take a higher one"
    return ConfigurationError(
        f"cannot listen on {_address(config.host, config.port)} for gRPC: {reason}", hint=hint
    )
