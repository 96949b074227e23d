"""HTTP over RSGI: paths, headers and statuses of the Open Inference Protocol's REST form."""

import logging
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
from granian.rsgi import ProtocolClosed  # type: ignore[attr-defined]

from penstock.core.clock import Clock
from penstock.core.errors import (
    Conflict,
    DeadlineExceeded,
    InvalidInput,
    NotFound,
    PenstockError,
    Refused,
    TooLarge,
)
from penstock.core.rng import unique_token
from penstock.observe.metrics import CONTENT_TYPE, Counter, MetricSet
from penstock.serving.plane import DataPlane, Deployment
from penstock.serving.protocols.v2_codec import V2Codec
from penstock.serving.protocols.v2_messages import ModelMetadata, ServerMetadata

__all__ = ["HttpApplication", "HttpConfig"]

log = logging.getLogger(__name__)

Headers = list[tuple[str, str]]

COUNT_DIGITS_MAX = 18

_encode = msgspec.json.Encoder().encode
_JSON: Headers = [("content-type", "application/json")]
_STATUS: tuple[tuple[type[PenstockError], int], ...] = (
    (TooLarge, 413),
    (InvalidInput, 400),
    (NotFound, 404),
    (Conflict, 409),
    (Refused, 503),
    (DeadlineExceeded, 504),
)


class RequestHeaders(Protocol):
    """What is used of RSGI's headers."""

    def get(self, key: str, default: Any = None) -> Any: ...


class Scope(Protocol):
    """What is used of RSGI's scope. Source: the RSGI specification of Granian."""

    proto: str
    method: str
    path: str

    @property
    def headers(self) -> RequestHeaders: ...


class HttpProtocol(Protocol):
    """What is used of RSGI's protocol object."""

    def __call__(self) -> Awaitable[bytes]: ...
    def __aiter__(self) -> AsyncIterator[bytes]: ...
    def response_bytes(self, status: int, headers: Headers, body: bytes) -> None: ...


class HttpConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`request_timeout_s` is the deadline of requests that bring none."""

    name: str
    version: str
    body_bytes_max: int
    request_timeout_s: float


@dataclass(slots=True, frozen=True)
class _Endpoint:
    deployment: Deployment
    codec: V2Codec


class HttpApplication:
    """The RSGI application: one instance a process."""

    def __init__(self, plane: DataPlane, metrics: MetricSet, clock: Clock, config: HttpConfig) -> None:
        self._plane = plane
        self._metrics = metrics
        self._monotonic = clock.monotonic
        self._config = config
        self._codecs: dict[Deployment, V2Codec] = {}
        # Filled with paths of what is served only, so as many as there are versions.
        self._infer_paths: dict[str, _Endpoint] = {}
        self._answered: dict[int, Counter] = {}
        self._answered_200 = self._counter(200)

    async def __rsgi__(self, scope: Scope, protocol: HttpProtocol) -> None:
        try:
            endpoint = self._infer_paths.get(scope.path)
            if endpoint is not None and scope.method == "POST":
                await self._infer(endpoint, scope, protocol)
            else:
                await self._route(scope, protocol)
        except PenstockError as error:
            self._respond_error(protocol, error)
        except ProtocolClosed:
            pass  # the client hung up before its body was whole: there is nobody to answer
        except Exception:
            reference = unique_token(4)
            log.exception("error %s in %s %s", reference, scope.method, scope.path)
            self._respond(
                protocol, 500, {"error": f"internal error; the server's log has it under {reference}"}
            )

    async def _infer(self, endpoint: _Endpoint, scope: Scope, protocol: HttpProtocol) -> None:
        arrived_s = self._monotonic()
        headers = scope.headers
        length = headers.get("content-length")
        if length is None:
            body = await self._chunked_body(protocol)
        elif _count(length, "Content-Length") > self._config.body_bytes_max:
            raise _too_large(self._config.body_bytes_max)
        else:
            body = await protocol()
        json_bytes = headers.get("inference-header-content-length")
        try:
            request = endpoint.codec.decode(
                body, None if json_bytes is None else _count(json_bytes, "Inference-Header-Content-Length")
            )
        except InvalidInput as error:
            encoding = headers.get("content-encoding")
            if encoding is not None and error.where == "body":
                raise InvalidInput(
                    f"content-encoding {encoding!r} is not understood", hint="send the body as it is"
                ) from None
            raise
        timeout_s = self._config.request_timeout_s
        asked_ms = headers.get("x-request-timeout-ms")
        if asked_ms is not None:
            timeout_s = min(timeout_s, _timeout_s(asked_ms))
        if request.timeout_s is not None:
            timeout_s = min(timeout_s, request.timeout_s)
        deadline_s = arrived_s + timeout_s
        answer = await endpoint.deployment.infer(request.tensors, arrived_s, deadline_s)
        content, json_bytes = endpoint.codec.encode(request, answer)
        self._answered_200.value += 1
        if json_bytes is None:
            protocol.response_bytes(200, _JSON, content)
        else:
            protocol.response_bytes(
                200,
                [
                    ("content-type", "application/octet-stream"),
                    ("inference-header-content-length", str(json_bytes)),
                ],
                content,
            )

    async def _chunked_body(self, protocol: HttpProtocol) -> bytes:
        """A body whose length was not told. Raises `TooLarge` as soon as that shows."""
        limit = self._config.body_bytes_max
        chunks: list[bytes] = []
        size = 0
        async for chunk in protocol:
            size += len(chunk)
            if size > limit:
                raise _too_large(limit)
            chunks.append(chunk)
        return b"".join(chunks)

    async def _route(self, scope: Scope, protocol: HttpProtocol) -> None:
        """Everything but the hot path."""
        if scope.proto != "http":
            raise NotFound("there are no web sockets here")
        match scope.path.strip("/").split("/"):
            case ["metrics"]:
                self._require(scope, "GET")
                self._count(200)
                content = self._metrics.render().encode()
                protocol.response_bytes(200, [("content-type", CONTENT_TYPE)], content)
            case ["v2", *rest]:
                await self._route_v2(rest, scope, protocol)
            case _:
                raise NotFound(f"no such path: {scope.path}", hint="see /v2, /v2/health/ready and /metrics")

    async def _route_v2(self, path: list[str], scope: Scope, protocol: HttpProtocol) -> None:
        match path:
            case ["models", model, "infer"]:
                await self._first_infer(model, None, scope, protocol)
            case ["models", model, "versions", version, "infer"]:
                await self._first_infer(model, version, scope, protocol)
            case []:
                self._require(scope, "GET")
                metadata = ServerMetadata(name=self._config.name, version=self._config.version)
                self._respond(protocol, 200, metadata)
            case ["health", "live"]:
                self._require(scope, "GET")
                self._respond(protocol, 200, {"live": True})
            case ["health", "ready"]:
                self._require(scope, "GET")
                ready = self._plane.ready
                self._respond(protocol, 200 if ready else 503, {"live": True, "ready": ready})
            case ["models", model, *rest]:
                self._require(scope, "GET")
                self._route_model(model, rest, scope.path, protocol)
            case _:
                raise NotFound(f"no such path: {scope.path}", hint="inference is POST /v2/models/NAME/infer")

    def _route_model(self, model: str, rest: list[str], path: str, protocol: HttpProtocol) -> None:
        match rest:
            case [] | ["versions", _]:
                deployment = self._plane.find(model, rest[1] if rest else None)
                metadata = ModelMetadata.of(
                    model, self._plane.versions(model), deployment.platform, deployment.signature
                )
                self._respond(protocol, 200, metadata)
            case ["ready"] | ["versions", _, "ready"]:
                deployment = self._plane.find(model, rest[1] if len(rest) > 1 else None)
                ready = self._plane.ready
                self._respond(
                    protocol,
                    200 if ready else 503,
                    {"name": model, "version": deployment.version, "ready": ready},
                )
            case _:
                raise NotFound(f"no such path: {path}", hint="inference is POST /v2/models/NAME/infer")

    async def _first_infer(self, model: str, version: str | None, scope: Scope, protocol: HttpProtocol) -> None:
        """An inference whose path was not seen before."""
        deployment = self._plane.find(model, version)
        self._require(scope, "POST")
        codec = self._codecs.get(deployment)
        if codec is None:
            codec = self._codecs[deployment] = V2Codec(
                model=deployment.model, version=deployment.version, signature=deployment.signature
            )
        endpoint = _Endpoint(deployment, codec)
        canonical = f"/v2/models/{model}" + (f"/versions/{version}" if version else "") + "/infer"
        if scope.path == canonical:
            self._infer_paths[canonical] = endpoint
        await self._infer(endpoint, scope, protocol)

    def _require(self, scope: Scope, method: str) -> None:
        if scope.method != method and not (method == "GET" and scope.method == "HEAD"):
            raise _MethodNotAllowed(f"{scope.path} takes {method}, not {scope.method}", allowed=method)

    def _respond(
        self, protocol: HttpProtocol, status: int, body: object, further: Headers | None = None
    ) -> None:
        self._count(status)
        protocol.response_bytes(status, _JSON + (further or []), _encode(body))

    def _respond_error(self, protocol: HttpProtocol, error: PenstockError) -> None:
        further: Headers = []
        if isinstance(error, _MethodNotAllowed):
            status = 405
            further = [("allow", error.allowed)]
        else:
            status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
        if isinstance(error, Refused):
            further = [
                ("retry-after", str(max(1, round(error.retry_after_s)))),
                ("x-shed-reason", error.reason),
            ]
        if status == 500:
            log.error("%s", error)
        text = f"{error.message}; {error.hint}" if error.hint else error.message
        self._respond(protocol, status, {"error": text}, further)

    def _count(self, status: int) -> None:
        counter = self._answered.get(status)
        if counter is None:
            counter = self._counter(status)
        counter.value += 1

    def _counter(self, status: int) -> Counter:
        counter = self._answered[status] = self._metrics.counter(
            "penstock_http_responses_total", "HTTP answers by status.", code=str(status)
        )
        return counter


class _MethodNotAllowed(InvalidInput):
    def __init__(self, message: str, *, allowed: str) -> None:
        super().__init__(message)
        self.allowed = allowed


def _too_large(limit: int) -> TooLarge:
    return TooLarge(
        f"the body passes the limit of {limit} bytes",
        where="body",
        hint="send fewer rows at once, or raise server.body_bytes_max",
    )


def _count(text: str, header: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= COUNT_DIGITS_MAX):
        raise InvalidInput(f"{header} is {text[:80]!r}, not a number of bytes", where=header)
    return int(text)


def _timeout_s(text: str) -> float:
    """The header's timeout in seconds."""
    try:
        timeout_ms = float(text)
    except ValueError:
        timeout_ms = float("nan")
    if not timeout_ms > 0:
        raise InvalidInput(
            f"x-request-timeout-ms is {text!r}, not a number of milliseconds above 0",
            where="x-request-timeout-ms",
        )
    return timeout_ms / 1000.0
