"""Invocations over HTTP: MLflow's scoring paths, their headers and statuses, and batches on the same paths."""

import asyncio
from functools import partial
from urllib.parse import unquote

from penstock.core.errors import InvalidInput, NotFound, PenstockError, Unsupported
from penstock.serving.batching.outputs import BatchOutputs, BatchRows
from penstock.serving.deployment import Deployment
from penstock.serving.instance import Instance
from penstock.serving.plane import DataPlane
from penstock.serving.protocols.http.heads import RequestHead
from penstock.serving.protocols.http.messages import HttpRequest, ResponseHead
from penstock.serving.protocols.http.responder import (
    JSON,
    Headers,
    Responder,
    no_such_path,
    prediction_line,
    require_method,
    rung_line,
)
from penstock.serving.protocols.rows.answers import RowsEncoder
from penstock.serving.protocols.rows.batch import BATCH_CRITICALITY, Batch, BatchPlan
from penstock.serving.protocols.rows.chunks import ArrowSink, ArrowSource, LinesSink, LinesSource, Sink, Source
from penstock.serving.protocols.rows.decoder import RowsDecoder
from penstock.serving.protocols.rows.fields import InvalidRows
from penstock.serving.protocols.rows.media import Form, answer_form, is_batch, request_form
from penstock.serving.protocols.terms import CRITICALITY, Terms, read_terms

__all__ = ["RowsRest"]


class _Endpoint:
    """Where invocations of one version go. `falls_back`: they name none, and its ladder may answer."""

    __slots__ = ("decoder", "deployment", "encoder", "falls_back", "head", "headers")

    def __init__(self, deployment: Deployment, *, falls_back: bool) -> None:
        self.deployment = deployment
        self.falls_back = falls_back
        self.decoder = RowsDecoder(deployment.signature)
        self.encoder = RowsEncoder(deployment.signature)
        self.headers: Headers = (
            ("x-penstock-model", deployment.model),
            ("x-penstock-version", deployment.version),
        )
        self.head = ResponseHead.build(200, JSON, self.headers)

    def head_of(self, outputs: BatchOutputs) -> bytes:
        """The head of an answer with these outputs, which another rung may have given."""
        if not outputs.rung:
            return self.head
        named: Headers = (("x-penstock-model", outputs.model),)
        if outputs.version:
            named += (("x-penstock-version", outputs.version),)
        return ResponseHead.build(200, JSON, named) + rung_line(outputs.rung)


class RowsRest:
    """Answers `/invocations`, `/models/…` and the health paths of MLflow's scoring server."""

    def __init__(
        self,
        plane: DataPlane,
        instance: Instance,
        responder: Responder,
        *,
        version: str,
        request_timeout_s: float,
    ) -> None:
        self._plane = plane
        self._instance = instance
        self._responder = responder
        self._clock = plane.clock
        self._version = version
        self._request_timeout_s = request_timeout_s
        self._endpoints: dict[tuple[Deployment, bool], _Endpoint] = {}
        # By the targets of what is served only, so no more of them than there are versions, twice.
        self._targets: dict[bytes, _Endpoint] = {}
        plane.on_changed(self._routes_changed)

    def wants_stream(self, head: RequestHead) -> bool:
        """Whether a request is a batch, which is handled from its head on."""
        return head.method == b"POST" and is_batch(head.headers) and _path(head.target)[-1] == "invocations"

    def target(self, target: bytes) -> tuple[Deployment, bool] | None:
        """What invocations at a target that is known already go to, and whether its ladder may answer."""
        endpoint = self._targets.get(target)
        return None if endpoint is None else (endpoint.deployment, endpoint.falls_back)

    def invoke(self, request: HttpRequest) -> bool:
        """Takes on an invocation whose target is known already; False for every other request."""
        endpoint = self._targets.get(request.target)
        if endpoint is None or request.method != b"POST":
            return False
        self._take(endpoint, request)
        return True

    def check(self, request: HttpRequest) -> Deployment | None:
        """Looks at an invocation as `invoke` would, and charges for it, but has nothing answered: what it would
        go to. None for every other request. Raises `Unsupported` for a batch, and `InvalidRows`.
        """
        match _path(request.target):
            case ["models", model, "versions", version, "invocations"] if request.method == b"POST":
                endpoint = self._endpoint(self._plane.find(model, version), request.target, named=True)
            case ["models", model, "invocations"] if request.method == b"POST":
                endpoint = self._endpoint(self._plane.find(model, None), request.target, named=False)
            case ["invocations"] if request.method == b"POST":
                endpoint = self._endpoint(self._only(), b"/invocations", named=False)
            case _:
                return None
        terms = request.terms or read_terms(
            request.headers, request.connection.peer, self._plane.limits, self._plane.rights
        )
        if request_form(request.headers) is not Form.JSON:
            raise Unsupported(
                "a batch is answered while it is read, and cannot be a job",
                where="prefer",
                hint="leave out `respond-async`, or send the rows as JSON",
            )
        try:
            rows = endpoint.decoder.decode(request.body)
        except PenstockError as error:
            endpoint.deployment.refused(error)
            raise
        try:
            count = endpoint.deployment.check_inputs(rows.tensors)
        except InvalidInput:
            endpoint.decoder.explain(request.body)
            raise
        terms.charge(endpoint.deployment, count)
        return endpoint.deployment

    def route(self, request: HttpRequest) -> bool:
        """Everything but the hot path; False for paths of others."""
        match _path(request.target):
            case ["models", model, "versions", version, *rest]:
                self._route_model(request, model, version, rest)
            case ["models", model, *rest] if rest:
                self._route_model(request, model, None, rest)
            case ["invocations"]:
                require_method(request, "POST")
                self._take(self._endpoint(self._only(), b"/invocations", named=False), request)
            case ["ping"] | ["health"]:
                require_method(request, "GET")
                ready = self._instance.ready
                self._responder.respond(request, 200 if ready else 503, {"ready": ready})
            case ["version"]:
                require_method(request, "GET")
                self._responder.send(request, 200, "text/plain; charset=utf-8", self._version.encode())
            case _:
                return False
        return True

    def _routes_changed(self) -> None:
        """What a target means is looked up anew; decoders are kept for what is still served."""
        self._targets.clear()
        served = set(self._plane.deployments())
        self._endpoints = {each: endpoint for each, endpoint in self._endpoints.items() if each[0] in served}

    def _route_model(self, request: HttpRequest, model: str, version: str | None, rest: list[str]) -> None:
        match rest:
            case ["invocations"]:
                deployment = self._plane.find(model, version)
                require_method(request, "POST")
                self._take(self._endpoint(deployment, request.target, named=version is not None), request)
            case ["ping"]:
                deployment = self._plane.find(model, version)
                require_method(request, "GET")
                ready = self._plane.accepting and deployment.fault is None
                body = {"name": model, "version": deployment.version, "ready": ready}
                self._responder.respond(request, 200 if ready else 503, body)
            case _:
                raise no_such_path("/".join(_path(request.target)))

    def _only(self) -> Deployment:
        """What answers where no model is named. Raises `NotFound` where that is not clear."""
        models = self._plane.models()
        if len(models) != 1:
            paths = ", ".join(f"/models/{model}/invocations" for model in models) or "nothing"
            raise NotFound(
                f"/invocations is for the only model of an app, and {len(models)} are served here",
                hint=f"name the model in the path; there are: {paths}",
            )
        return self._plane.find(models[0], None)

    def _endpoint(self, deployment: Deployment, target: bytes, *, named: bool) -> _Endpoint:
        """The deployment's endpoint, from now on found by the target if that is no longer than it has to be."""
        key = (deployment, not named)
        endpoint = self._endpoints.get(key)
        if endpoint is None:
            endpoint = self._endpoints[key] = _Endpoint(deployment, falls_back=not named)
        model = f"/models/{deployment.model}"
        plain = (f"{model}/invocations", f"{model}/versions/{deployment.version}/invocations", "/invocations")
        if target in [path.encode() for path in plain]:
            self._targets[target] = endpoint
        return endpoint

    def _take(self, endpoint: _Endpoint, request: HttpRequest) -> None:
        form = request_form(request.headers)
        terms = request.terms or read_terms(
            request.headers, request.connection.peer, self._plane.limits, self._plane.rights
        )
        if form is not Form.JSON:
            self._take_batch(endpoint, request, form, terms)
            return
        try:
            try:
                rows = endpoint.decoder.decode(request.body)
            except PenstockError as error:
                endpoint.deployment.refused(error)
                raise
            try:
                deployment = endpoint.deployment
                terms.falls_back = endpoint.falls_back
                if deployment.recorder is not None:
                    terms.predict(None, request.headers)
                answer = deployment.infer(
                    terms.inference(deployment, rows.tensors, request.arrived_s, self._request_timeout_s)
                )
            except InvalidInput:
                endpoint.decoder.explain(request.body)
                raise
        except InvalidRows as error:
            self.respond_fields(request, error)
            return
        request.on_abandoned = answer.abandon
        answer.future.add_done_callback(partial(self._answered, endpoint, request, rows.by_column, terms))

    def _answered(
        self,
        endpoint: _Endpoint,
        request: HttpRequest,
        by_column: bool,
        terms: Terms,
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
            rows = answer.result()
            content = endpoint.encoder.encode(rows, by_column=by_column)
            head = endpoint.head_of(rows.outputs)
            if terms.prediction:
                head += prediction_line(terms.prediction)
            self._responder.answered_200.value += 1
            if len(content) < self._responder.compress_bytes_min:
                request.respond(head, content)
            else:
                self._responder.deliver(request, head, content)
        except Exception as error:
            self._responder.respond_error(request, error)

    def _take_batch(self, endpoint: _Endpoint, request: HttpRequest, form: Form, terms: Terms) -> None:
        deployment = endpoint.deployment
        signature = deployment.signature
        fixed = signature.rows_fixed
        if fixed not in (None, 1):
            raise InvalidInput(
                f"{deployment.model!r} is bound to {fixed} rows at a time, and a batch has any number",
                hint="send them as JSON, so many at once",
            )
        rows_max = fixed or deployment.batch_rows_max
        source: Source
        if form is Form.LINES:
            source = LinesSource(endpoint.decoder, rows_max=rows_max)
        else:
            source = ArrowSource(signature, rows_max=rows_max)
        sink: Sink
        if answer_form(request.headers, form) is Form.LINES:
            sink = LinesSink(endpoint.encoder)
        else:
            sink = ArrowSink(signature)
        head = ResponseHead.build(200, sink.content_type, endpoint.headers)
        if deployment.recorder is not None:
            head += prediction_line(terms.predict(None, request.headers))
        plan = BatchPlan(
            deployment=deployment,
            source=source,
            sink=sink,
            head=head,
            timeout_s=min(terms.timeout_s or self._request_timeout_s, self._request_timeout_s),
            criticality=terms.criticality if CRITICALITY in request.headers else BATCH_CRITICALITY,
            terms=terms,
            on_begun=partial(self._responder.count, 200),
        )
        self._responder.respond_later(request, self._run_batch(plan, request))

    async def _run_batch(self, plan: BatchPlan, request: HttpRequest) -> None:
        try:
            await Batch(plan, request, self._clock).run()
        except InvalidRows as error:
            self.respond_fields(request, error)

    def respond_fields(self, request: HttpRequest, error: InvalidRows) -> None:
        """Answers with the mistakes in rows."""
        said = f"{error.message}; {error.hint}" if error.hint else error.message
        self._responder.respond(request, 400, {"error": said, "fields": error.fields})


def _path(target: bytes) -> list[str]:
    return [unquote(part) for part in target.partition(b"?")[0].decode("latin-1").strip("/").split("/")]
