"""Taking an address to listen on. Knows nothing of what is spoken there."""

import errno
import socket

from penstock.core.errors import ConfigurationError

__all__ = ["BACKLOG", "listen", "reserve_port"]

BACKLOG = 4096
PORT_MAX = 65535


def listen(host: str, port: int, option: str = "--port") -> socket.socket:
    """A socket that listens on the address; who connects waits until somebody accepts. Port 0 takes a free one.

    Raises `ConfigurationError` where the address cannot be had; `option` is the one that names the port.
    """
    _check(host, port)
    try:
        return socket.create_server((host, port), family=_family(host), backlog=BACKLOG)
    except OSError as error:
        raise ConfigurationError(_problem(host, port, error), hint=_hint(error, option)) from error


def reserve_port(host: str, port: int) -> socket.socket:
    """A socket that holds the address for servers in several processes, who share it by SO_REUSEPORT.

    It never listens, so it is sent no connections. Raises `ConfigurationError` as `listen` does.
    """
    _check(host, port)
    option = "--grpc-port"
    if port:
        # Those who share do so by consent; without this look, others who also do would be joined unawares.
        listen(host, port, option).close()
    held = socket.socket(_family(host), socket.SOCK_STREAM)
    try:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind((host, port))
    except OSError as error:
        held.close()
        raise ConfigurationError(_problem(host, port, error), hint=_hint(error, option)) from error
    return held


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _check(host: str, port: int) -> None:
    if not 0 <= port <= PORT_MAX:
        raise ConfigurationError(
            f"cannot listen on {host}:{port}: ports end at {PORT_MAX}", hint="take another with --port"
        )


def _problem(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use"
    reason = error.strerror or str(error)
    return f"cannot listen on {host}:{port}: {reason}"


def _hint(error: OSError, option: str) -> str:
    if error.errno == errno.EACCES:
        return "ports under 1024 need rights; take a higher one"
    if isinstance(error, socket.gaierror) or (error.errno == errno.EADDRNOTAVAIL):
        return "the host is not an address of this machine; try --host 127.0.0.1, or 0.0.0.0 for all of them"
    return f"take another with {option}, or {option} 0 for a free one"
