"""Web pages of other origins: which may ask, and what their browsers are told. Source: the Fetch standard."""

import re

from penstock.core.errors import ConfigurationError, Forbidden, shown
from penstock.serving.protocols.http.messages import AnswerSink, HttpRequest, ResponseHead

__all__ = ["CrossOrigins"]

ANY = "*"
MAX_AGE_S = 600
"""How long a browser may go by the answer to its preflight. Some cap it at this."""

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?")
_METHODS = "GET, HEAD, POST, DELETE"
_HEADERS = (
    "content-type, content-encoding, inference-header-content-length, x-request-timeout-ms, x-criticality,"
    " prefer, idempotency-key, x-job-expires-s, x-webhook-url, x-prediction-id"
)
_EXPOSED = (
    "inference-header-content-length, location, preference-applied, retry-after, x-penstock-model,"
    " x-penstock-version, x-shed-reason, x-prediction-id"
)


class CrossOrigins:
    """The origins that may ask."""

    def __init__(self, origins: frozenset[bytes] | None) -> None:
        self._origins = origins
        """None: all."""

    @classmethod
    def parse(cls, setting: str) -> "CrossOrigins | None":
        """The origins of `server.cors_origins`: with commas between them, or `*`; None where there are none.

        Raises `ConfigurationError` for what no browser would send as its origin.
        """
        origins = [origin.strip() for origin in setting.split(",") if origin.strip()]
        if not origins:
            return None
        if origins == [ANY]:
            return cls(None)
        for origin in origins:
            if not _ORIGIN.fullmatch(origin):
                raise ConfigurationError(
                    f"setting 'server.cors_origins': {shown(origin)} is not an origin",
                    hint="write scheme, host and port as browsers do, such as https://app.example.com or "
                    "http://localhost:3000, with commas between several, or * alone for all",
                )
        return cls(frozenset(origin.encode() for origin in origins))

    def admit(self, request: HttpRequest) -> bool:
        """Sees to the headers that the request's answer will have. True: it was a preflight, and is answered.

        Raises `Forbidden` for a preflight of an origin that may not ask.
        """
        headers = request.headers
        origin = headers.get(b"origin")
        lines = self.lines(origin)
        if lines:
            request.connection = _WithHeaders(request.connection, lines)
        if request.method != b"OPTIONS" or b"access-control-request-method" not in headers or origin is None:
            return False
        if not self._allows(origin):
            raise Forbidden(
                f"pages of {shown(origin.decode('latin-1'))} may not ask here",
                hint="the setting server.cors_origins names those that may",
            )
        request.respond(_PREFLIGHT, b"")
        return True

    def lines(self, origin: bytes | None) -> bytes:
        """What the head of an answer says to a page of this origin; None: the request named none."""
        lines = b"" if self._origins is None else b"vary: origin\r\n"
        if origin is None or not self._allows(origin):
            return lines
        named = b"*" if self._origins is None else origin
        return lines + b"access-control-allow-origin: %b\r\naccess-control-expose-headers: %b\r\n" % (
            named,
            _EXPOSED.encode(),
        )

    def _allows(self, origin: bytes) -> bool:
        return self._origins is None or origin in self._origins


_PREFLIGHT = ResponseHead.build(
    200,
    "text/plain",
    (
        ("access-control-allow-methods", _METHODS),
        ("access-control-allow-headers", _HEADERS),
        ("access-control-max-age", str(MAX_AGE_S)),
    ),
)


class _WithHeaders:
    """Puts lines into the heads of answers on their way to the connection."""

    __slots__ = ("_lines", "_sink")

    def __init__(self, sink: AnswerSink, lines: bytes) -> None:
        self._sink = sink
        self._lines = lines

    @property
    def peer(self) -> bytes:
        return self._sink.peer

    def send_answer(self, request: HttpRequest, head: bytes, body: bytes) -> None:
        self._sink.send_answer(request, head + self._lines, body)

    def begin_answer(self, request: HttpRequest, head: bytes) -> None:
        self._sink.begin_answer(request, head + self._lines)

    async def send_piece(self, request: HttpRequest, piece: bytes) -> None:
        await self._sink.send_piece(request, piece)

    def finish_answer(self, request: HttpRequest) -> None:
        self._sink.finish_answer(request)

    def abort_answer(self, request: HttpRequest) -> None:
        self._sink.abort_answer(request)

    def replace_body(self, request: HttpRequest, body: bytes) -> bool:
        return self._sink.replace_body(request, body)
