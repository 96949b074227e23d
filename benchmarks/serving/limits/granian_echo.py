"""The limit of Granian over RSGI: read the body, answer with it."""

import sys

import uvloop
from granian.server.embed import Server

HEADERS = [("content-type", "application/json")]
CONNECTIONS_MAX = 16384


async def echo(_scope, protocol) -> None:  # type: ignore[no-untyped-def]
    protocol.response_bytes(200, HEADERS, await protocol())


class Echo:
    __rsgi__ = staticmethod(echo)


async def main(port: int) -> None:
    server = Server(
        Echo(),
        address="127.0.0.1",
        port=port,
        interface="rsgi",
        http="1",
        websockets=False,
        log_enabled=False,
        backlog=CONNECTIONS_MAX,
        backpressure=CONNECTIONS_MAX,
    )
    await server.serve()


uvloop.run(main(int(sys.argv[1])))
