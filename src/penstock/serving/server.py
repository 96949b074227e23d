"""The HTTP server of a `serve` process: Granian, embedded in our event loop."""

import asyncio
import errno
import socket

from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server as GranianServer

from penstock.core.errors import ConfigurationError
from penstock.core.settings import ServerSettings
from penstock.serving.protocols.http import HttpApplication

__all__ = ["HttpServer"]

BACKLOG = 4096


class HttpServer:
    """Listens, and hands requests to the application until it is stopped.

    Raises `ConfigurationError` where a free port is asked for and the host has none.
    """

    def __init__(self, application: HttpApplication, settings: ServerSettings) -> None:
        self._settings = settings
        self._port = settings.port or _bound_port(settings.host, 0)
        # Granian's backpressure counts open connections, busy or not; its default would let those past
        # about a thousand wait for ever. Its own signals and logs are ours to handle.
        self._granian = GranianServer(
            application,
            address=settings.host,
            port=self._port,
            interface=Interfaces.RSGI,
            http=HTTPModes.http1,
            websockets=False,
            backlog=BACKLOG,
            backpressure=settings.connections_max,
            log_enabled=False,
        )
        self._serving: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        host = f"[{self._settings.host}]" if ":" in self._settings.host else self._settings.host
        return f"http://{host}:{self._port}"

    def check_address(self) -> None:
        """Raises `ConfigurationError` where the address cannot be listened on."""
        _bound_port(self._settings.host, self._port)

    async def start(self) -> None:
        """Returns once connections are accepted. Raises `ConfigurationError` where the address is taken."""
        self.check_address()
        self._serving = asyncio.create_task(self._granian.serve())
        for _ in range(1000):
            if self._serving.done():
                await self._serving
            if await _accepts(self._settings.host, self._port):
                return
            await asyncio.sleep(0.005)
        raise ConfigurationError(f"the server did not come up on {self.url}")

    async def stop(self) -> None:
        """Accepts nothing more and closes the connections, once what was taken on is answered."""
        if self._serving is not None:
            self._granian.stop()  # type: ignore[no-untyped-call]
            await self._serving


def _bound_port(host: str, port: int) -> int:
    """Tries the address as the server will: Granian shares ports, which would hide that one is taken.

    Gives the port, a free one for 0. Raises `ConfigurationError`.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
            return int(probe.getsockname()[1])
        except OSError as error:
            raise ConfigurationError(_address_problem(host, port, error), hint=_address_hint(error)) from error
        except UnicodeError:
            raise ConfigurationError(f"{host!r} is not the name of a host") from None


def _address_problem(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use"
    return f"cannot listen on {host}:{port}: {error.strerror or error}"


def _address_hint(error: OSError) -> str:
    if error.errno == errno.EACCES:
        return "ports under 1024 need rights; take a higher one"
    if error.errno == errno.EADDRINUSE:
        return "take another with --port, or --port 0 for a free one"
    return "name an address of this machine with --host: 127.0.0.1 for itself, 0.0.0.0 for all it has"


async def _accepts(host: str, port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.close()
    return True
