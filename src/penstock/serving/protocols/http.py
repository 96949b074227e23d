"""HTTP: paths, headers and statuses of the Open Inference Protocol's REST form."""

import asyncio
import logging
from functools import partial
from typing import NoReturn

import msgspec

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
from penstock.serving.batching.dispatcher import BatchRows
from penstock.serving.plane import DataPlane, Deployment
from penstock.serving.protocols.http_messages import HttpRequest, ResponseHead
from penstock.serving.protocols.v2_codec import V2Codec, V2Request
from penstock.serving.protocols.v2_messages import ModelMetadata, ServerMetadata

__all__ = ["HttpApplication", "HttpConfig"]

log = logging.getLogger(__name__)

Headers = tuple[tuple[str, str], ...]

JSON = "application/json"
BINARY = "application/octet-stream"

_encode = msgspec.json.Encoder().encode
_HEAD_JSON_200 = ResponseHead.build(200, JSON)
_HEAD_BINARY_200 = ResponseHead.build(200, BINARY, (("inference-header-content-length", "%d"),))
_STATUS: tuple[tuple[type[PenstockError], int], ...] = (
    (TooLarge, 413),
    (InvalidInput, 400),
    (NotFound, 404),
    (Conflict, 409),
    (Refused, 503),
    (DeadlineExceeded, 504),
)


class HttpConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`request_timeout_s` is the deadline of requests that bring none."""

    name: str
    version: str
    request_timeout_s: float


class _Endpoint:
    """Where inferences of one version go."""

    __slots__ = ("codec", "deployment")

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.codec = V2Codec(model=deployment.model, version=deployment.version, signature=deployment.signature)


class HttpApplication:
    """Answers requests from the data plane: one instance a process."""

    def __init__(self, plane: DataPlane, metrics: MetricSet, config: HttpConfig) -> None:
        self._plane = plane
        self._metrics = metrics
        self._config = config
        self._endpoints: dict[Deployment, _Endpoint] = {}
        # By the targets of what is served only, so no more of them than there are versions, twice.
        self._targets: dict[bytes, _Endpoint] = {}
        self._answered: dict[int, Counter] = {}
        self._answered_200 = self._counter(200)

    def handle(self, request: HttpRequest) -> None:
        """Answers the request, at once or when its model has answered."""
        try:
            endpoint = self._targets.get(request.target)
            if endpoint is not None and request.method == b"POST":
                self._infer(endpoint, request)
            else:
                self._route(request)
        except Exception as error:
            self._respond_error(request, error)

    def refusal(self, status: int, message: str) -> bytes:
        """The body of an answer to what could not be received as a request."""
        self._count(status)
        return _encode({"error": message})

    def _infer(self, endpoint: _Endpoint, request: HttpRequest) -> None:
        headers = request.headers
        json_bytes = headers.get(b"inference-header-content-length")
        try:
            inference = endpoint.codec.decode(request.body, None if json_bytes is None else _count(json_bytes))
        except InvalidInput as error:
            _blame_encoding(headers, error)
            raise
        timeout_s = self._config.request_timeout_s
        asked_ms = headers.get(b"x-request-timeout-ms")
        if asked_ms is not None:
            timeout_s = min(timeout_s, _timeout_s(asked_ms))
        if inference.timeout_s is not None:
            timeout_s = min(timeout_s, inference.timeout_s)
        arrived_s = request.arrived_s
        answer = endpoint.deployment.infer(inference.tensors, arrived_s, arrived_s + timeout_s)
        request.on_abandoned = answer.abandon
        answer.future.add_done_callback(partial(self._inferred, endpoint, request, inference))

    def _inferred(
        self,
        endpoint: _Endpoint,
        request: HttpRequest,
        inference: V2Request,
        answer: "asyncio.Future[BatchRows]",
    ) -> None:
        """The model has answered, or will not."""
        if answer.cancelled():
            return
        failure = answer.exception()
        if failure is not None:
            # Not raised: a traceback's frames would hold the answer, and the answer the error.
            self._respond_error(request, failure)
            return
        try:
            content, json_bytes = endpoint.codec.encode(inference, answer.result())
            head = _HEAD_JSON_200 if json_bytes is None else _HEAD_BINARY_200 % json_bytes
            self._answered_200.value += 1
            request.respond(head, content)
        except Exception as error:
            self._respond_error(request, error)

    def _route(self, request: HttpRequest) -> None:
        """Everything but the hot path."""
        path = request.target.partition(b"?")[0].decode("latin-1")
        match path.strip("/").split("/"):
            case ["metrics"]:
                _require(request, "GET")
                self._count(200)
                request.respond(ResponseHead.build(200, CONTENT_TYPE), self._metrics.render().encode())
            case ["v2"]:
                _require(request, "GET")
                metadata = ServerMetadata(name=self._config.name, version=self._config.version)
                self._respond(request, 200, metadata)
            case ["v2", "health", "live"]:
                _require(request, "GET")
                self._respond(request, 200, {"live": True})
            case ["v2", "health", "ready"]:
                _require(request, "GET")
                ready = self._plane.ready
                self._respond(request, 200 if ready else 503, {"live": True, "ready": ready})
            case ["v2", "models", model, "versions", version, *rest]:
                self._route_model(request, model, version, rest)
            case ["v2", "models", model, *rest]:
                self._route_model(request, model, None, rest)
            case _:
                _no_such_path(path)

    def _route_model(self, request: HttpRequest, model: str, version: str | None, rest: list[str]) -> None:
        deployment = self._plane.find(model, version)
        match rest:
            case ["infer"]:
                _require(request, "POST")
                self._infer(self._endpoint(deployment, model, version), request)
            case []:
                _require(request, "GET")
                metadata = ModelMetadata.of(
                    model, self._plane.versions(model), deployment.platform, deployment.signature
                )
                self._respond(request, 200, metadata)
            case ["ready"]:
                _require(request, "GET")
                ready = self._plane.ready
                body = {"name": model, "version": deployment.version, "ready": ready}
                self._respond(request, 200 if ready else 503, body)
            case _:
                _no_such_path("/".join(rest))

    def _endpoint(self, deployment: Deployment, model: str, version: str | None) -> _Endpoint:
        """The deployment's endpoint, from now on found by the target."""
        endpoint = self._endpoints.get(deployment)
        if endpoint is None:
            endpoint = self._endpoints[deployment] = _Endpoint(deployment)
        named = f"/versions/{version}" if version is not None else ""
        self._targets[f"/v2/models/{model}{named}/infer".encode()] = endpoint
        return endpoint

    def _respond(self, request: HttpRequest, status: int, body: object, further: Headers = ()) -> None:
        self._count(status)
        request.respond(ResponseHead.build(status, JSON, further), _encode(body))

    def _respond_error(self, request: HttpRequest, error: BaseException) -> None:
        if not isinstance(error, PenstockError):
            reference = unique_token(4)
            log.error("error %s at %r", reference, request.target, exc_info=error)
            self._respond(request, 500, {"error": f"internal error; the server's log has it under {reference}"})
            return
        further: Headers = ()
        if isinstance(error, _MethodNotAllowed):
            status = 405
            further = (("allow", error.allowed),)
        else:
            status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
        if isinstance(error, Refused):
            retry_after = str(max(1, round(error.retry_after_s)))
            further = (("retry-after", retry_after), ("x-shed-reason", error.reason))
        if status == 500:
            log.error("%s", error)
        text = f"{error.message}; {error.hint}" if error.hint else error.message
        self._respond(request, status, {"error": text}, further)

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


def _require(request: HttpRequest, method: str) -> None:
    given = request.method.decode("latin-1")
    if given != method and not (method == "GET" and given == "HEAD"):
        allowed = "GET, HEAD" if method == "GET" else method
        raise _MethodNotAllowed(f"this path takes {method}, not {given}", allowed=allowed)


def _no_such_path(path: str) -> NoReturn:
    raise NotFound(
        f"no such path: {path}", hint="inference is POST /v2/models/NAME/infer; see also /v2 and /metrics"
    )


def _blame_encoding(headers: dict[bytes, bytes], error: InvalidInput) -> None:
    """Raises a clearer error where a body is no JSON because it is compressed."""
    encoding = headers.get(b"content-encoding")
    if encoding is not None and error.where == "body":
        raise InvalidInput(
            f"content-encoding {encoding.decode('latin-1')!r} is not understood", hint="send the body as it is"
        ) from None


def _count(text: bytes) -> int:
    if not text.isdigit() or len(text) > 18:
        raise InvalidInput(
            f"Inference-Header-Content-Length is {text.decode('latin-1')[:80]!r}, not a number of bytes",
            where="Inference-Header-Content-Length",
        )
    return int(text)


def _timeout_s(text: bytes) -> float:
    """The header's timeout in seconds."""
    try:
        timeout_ms = float(text)
    except ValueError:
        timeout_ms = float("nan")
    if not timeout_ms > 0:
        raise InvalidInput(
            f"x-request-timeout-ms is {text.decode('latin-1')[:80]!r}, not a number of milliseconds above 0",
            where="x-request-timeout-ms",
        )
    return timeout_ms / 1000.0
