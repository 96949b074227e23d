"""The Open Inference Protocol's REST form: its paths, headers and statuses."""

import asyncio
from functools import partial
from urllib.parse import unquote

from penstock.core.errors import InvalidInput, PenstockError
from penstock.serving.batching.outputs import BatchRows
from penstock.serving.deployment import Deployment
from penstock.serving.instance import Instance
from penstock.serving.plane import DataPlane
from penstock.serving.protocols.http.messages import HttpRequest, ResponseHead
from penstock.serving.protocols.http.responder import (
    JSON,
    Responder,
    no_such_path,
    prediction_line,
    require_method,
    rung_line,
)
from penstock.serving.protocols.terms import Terms, read_terms
from penstock.serving.protocols.v2.codec import V2Codec, V2Request
from penstock.serving.protocols.v2.descriptions import model_configuration, model_statistics
from penstock.serving.protocols.v2.messages import ModelMetadata, ServerMetadata
from penstock.serving.protocols.v2.repository import V2Repository

__all__ = ["V2Rest"]

BINARY = "application/octet-stream"

_HEAD_JSON_200 = ResponseHead.build(200, JSON)
_HEAD_BINARY_200 = ResponseHead.build(200, BINARY, (("inference-header-content-length", "%d"),))


class _Endpoint:
    """Where inferences of one version go. `falls_back`: they name none, and its ladder may answer."""

    __slots__ = ("codec", "deployment", "falls_back")

    def __init__(self, deployment: Deployment, *, falls_back: bool) -> None:
        self.deployment = deployment
        self.falls_back = falls_back
        self.codec = V2Codec(model=deployment.model, version=deployment.version, signature=deployment.signature)


class V2Rest:
    """Answers what is under `/v2`."""

    def __init__(
        self,
        plane: DataPlane,
        instance: Instance,
        responder: Responder,
        *,
        name: str,
        version: str,
        request_timeout_s: float,
    ) -> None:
        self._plane = plane
        self._instance = instance
        self._responder = responder
        self._repository = V2Repository(instance, responder)
        self._metadata = ServerMetadata(name=name, version=version)
        self._request_timeout_s = request_timeout_s
        self._endpoints: dict[tuple[Deployment, bool], _Endpoint] = {}
        # By the targets of what is served only, so no more of them than there are versions, twice.
        self._targets: dict[bytes, _Endpoint] = {}
        plane.on_changed(self._routes_changed)

    def target(self, target: bytes) -> tuple[Deployment, bool] | None:
        """What inferences at a target that is known already go to, and whether its ladder may answer."""
        endpoint = self._targets.get(target)
        return None if endpoint is None else (endpoint.deployment, endpoint.falls_back)

    def infer(self, request: HttpRequest) -> bool:
        """Takes on an inference whose target is known already; False for every other request."""
        endpoint = self._targets.get(request.target)
        if endpoint is None or request.method != b"POST":
            return False
        self._infer(endpoint, request)
        return True

    def check(self, request: HttpRequest, path: list[str]) -> Deployment | None:
        """Looks at an inference as `infer` would, and charges for it, but has nothing answered: what it would
        go to. None for every other request; `path` as in `route`.
        """
        match [unquote(part) for part in path]:
            case ["models", model, "versions", version, "infer"] if request.method == b"POST":
                endpoint = self._endpoint(self._plane.find(model, version), model, version)
            case ["models", model, "infer"] if request.method == b"POST":
                endpoint = self._endpoint(self._plane.find(model, None), model, None)
            case _:
                return None
        inference, terms = self._decoded(endpoint, request)
        rows = endpoint.deployment.check_inputs(inference.tensors)
        terms.charge(endpoint.deployment, rows)
        return endpoint.deployment

    def route(self, request: HttpRequest, path: list[str]) -> None:
        """Everything but the hot path; `path` is what follows `/v2`, percent-encoded as it came."""
        match [unquote(part) for part in path]:
            case []:
                require_method(request, "GET")
                self._responder.respond(request, 200, self._metadata)
            case ["health", "live"]:
                self._health(request, live=True)
            case ["health", "ready"]:
                self._health(request, live=False)
            case ["models", "stats"]:
                require_method(request, "GET")
                self._responder.respond_later(request, self._statistics(request, None, None))
            case ["models", model, "versions", version, *rest]:
                self._route_model(request, model, version, rest)
            case ["models", model, *rest]:
                self._route_model(request, model, None, rest)
            case ["repository", *rest]:
                self._repository.route(request, rest)
            case _:
                raise no_such_path("/".join(("/v2", *path)))

    def _health(self, request: HttpRequest, *, live: bool) -> None:
        """One who answers is live; ready is the whole instance."""
        require_method(request, "GET")
        ready = self._instance.ready
        self._responder.respond(request, 200 if live or ready else 503, {"live": True, "ready": ready})

    def _routes_changed(self) -> None:
        """What a target means is looked up anew; codecs are kept for what is still served."""
        self._targets.clear()
        served = set(self._plane.deployments())
        self._endpoints = {each: endpoint for each, endpoint in self._endpoints.items() if each[0] in served}

    def _route_model(self, request: HttpRequest, model: str, version: str | None, rest: list[str]) -> None:
        deployment = self._plane.find(model, version)
        match rest:
            case ["infer"]:
                require_method(request, "POST")
                self._infer(self._endpoint(deployment, model, version), request)
            case []:
                require_method(request, "GET")
                metadata = ModelMetadata.of(
                    model, self._plane.versions(model), deployment.platform, deployment.signature
                )
                self._responder.respond(request, 200, metadata)
            case ["ready"]:
                require_method(request, "GET")
                ready = self._plane.accepting and deployment.fault is None
                body = {"name": model, "version": deployment.version, "ready": ready}
                self._responder.respond(request, 200 if ready else 503, body)
            case ["config"]:
                require_method(request, "GET")
                self._responder.respond(request, 200, model_configuration(deployment))
            case ["stats"]:
                require_method(request, "GET")
                self._responder.respond_later(request, self._statistics(request, model, version))
            case _:
                raise no_such_path(request.target.partition(b"?")[0].decode("latin-1"))

    async def _statistics(self, request: HttpRequest, model: str | None, version: str | None) -> None:
        """Of a version, of all versions of a model, or of all."""
        found = [
            each
            for each in await self._instance.statistics()
            if (model is None or each.model == model) and (version is None or each.version == version)
        ]
        self._responder.respond(request, 200, model_statistics(found))

    def _endpoint(self, deployment: Deployment, model: str, version: str | None) -> _Endpoint:
        """The deployment's endpoint, from now on found by the target."""
        key = (deployment, version is None)
        endpoint = self._endpoints.get(key)
        if endpoint is None:
            endpoint = self._endpoints[key] = _Endpoint(deployment, falls_back=version is None)
        named = f"/versions/{version}" if version is not None else ""
        self._targets[f"/v2/models/{model}{named}/infer".encode()] = endpoint
        return endpoint

    def _decoded(self, endpoint: _Endpoint, request: HttpRequest) -> tuple[V2Request, Terms]:
        headers = request.headers
        try:
            json_bytes = headers.get(b"inference-header-content-length")
            inference = endpoint.codec.decode(request.body, None if json_bytes is None else _count(json_bytes))
            terms = request.terms or read_terms(
                headers, request.connection.peer, self._plane.limits, self._plane.rights
            )
        except PenstockError as error:
            endpoint.deployment.refused(error)
            raise
        return inference, terms

    def _infer(self, endpoint: _Endpoint, request: HttpRequest) -> None:
        inference, terms = self._decoded(endpoint, request)
        terms.narrow(inference.timeout_s, inference.priority)
        terms.falls_back = endpoint.falls_back
        deployment = endpoint.deployment
        if deployment.recorder is not None:
            inference = inference._replace(id=terms.predict(inference.id, request.headers))
        answer = deployment.infer(
            terms.inference(deployment, inference.tensors, request.arrived_s, self._request_timeout_s)
        )
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
            self._responder.respond_error(request, failure)
            return
        try:
            content, json_bytes = endpoint.codec.encode(inference, answer.result())
            head = _HEAD_JSON_200 if json_bytes is None else _HEAD_BINARY_200 % json_bytes
            if inference.id and endpoint.deployment.recorder is not None:
                head += prediction_line(inference.id)
            rung = answer.result().outputs.rung
            if rung:
                head += rung_line(rung)
            self._responder.answered_200.value += 1
            if len(content) < self._responder.compress_bytes_min:
                request.respond(head, content)
            else:
                self._responder.deliver(request, head, content)
        except Exception as error:
            self._responder.respond_error(request, error)


def _count(text: bytes) -> int:
    if not text.isdigit() or len(text) > 18:
        raise InvalidInput(
            f"Inference-Header-Content-Length is {text.decode('latin-1')[:80]!r}, not a number of bytes",
            where="Inference-Header-Content-Length",
        )
    return int(text)
