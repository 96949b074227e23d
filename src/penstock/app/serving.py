"""`penstock run`: an app file served by supervised worker processes."""

import contextlib
import socket
import sys
from collections.abc import Callable

from penstock.app.limits import shared_buckets
from penstock.core.clock import Clock
from penstock.core.settings import Settings
from penstock.serving.listening import listen, reserve_port
from penstock.supervision.supervisor import Supervisor, SupervisorConfig

__all__ = ["serve"]


async def serve(
    app: str,
    read_settings: Callable[[], Settings],
    *,
    clock: Clock,
    version: str,
    report: Callable[[str], None],
) -> None:
    """Serves the models of an app file (`path`, or `path:name`) until SIGINT or SIGTERM, then finishes what was
    taken on and returns. SIGHUP has `read_settings` and the app file read again.

    A second signal ends everything at once. Raises `PenstockError` where a model cannot be loaded or the
    address is taken.
    """
    server = read_settings().server
    with contextlib.ExitStack() as held:
        listener = held.enter_context(listen(server.host, server.port))
        grpc_port = -1
        if server.grpc_port >= 0:
            grpc = held.enter_context(reserve_port(server.host, server.grpc_port))
            grpc_port = _port(grpc)
        config = SupervisorConfig(
            app=app,
            command=(sys.executable, "-m", "penstock.app.worker"),
            stream_command=(sys.executable, "-m", "penstock.app.stream_worker"),
            version=version,
            inherited=(held.enter_context(shared_buckets()),),
        )
        supervisor = Supervisor(config, read_settings, listener, grpc_port, clock=clock, report=report)
        await supervisor.run()


def _port(bound: socket.socket) -> int:
    port: int = bound.getsockname()[1]
    return port
