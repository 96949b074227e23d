"""What answers HTTP requests: paths to protocols, errors to statuses."""

from concurrent.futures import ThreadPoolExecutor

import msgspec

from penstock.core.errors import InvalidInput
from penstock.observe.exposition import CONTENT_TYPE
from penstock.observe.metrics import MetricSet
from penstock.serving.admission.rights import OF_ANYBODY
from penstock.serving.instance import Instance
from penstock.serving.jobs.service import Jobs
from penstock.serving.plane import DataPlane
from penstock.serving.protocols.http.bodies import BodyDecoder
from penstock.serving.protocols.http.cors import CrossOrigins
from penstock.serving.protocols.http.heads import RequestHead
from penstock.serving.protocols.http.messages import AnswerSink, HttpRequest, Refusal
from penstock.serving.protocols.http.responder import Responder, no_such_path, require_method
from penstock.serving.protocols.jobs.rest import JobsRest
from penstock.serving.protocols.rows.rest import RowsRest
from penstock.serving.protocols.terms import SaidTerms, Terms
from penstock.serving.protocols.v2.rest import V2Rest
from penstock.serving.protocols.web.rest import WebRest

__all__ = ["HttpApplication", "HttpConfig"]


class HttpConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`request_timeout_s` is the deadline of requests that bring none; the rest is as in `ServerSettings`."""

    name: str
    version: str
    request_timeout_s: float
    body_bytes_max: int = 16 * 1024 * 1024
    compress_bytes_min: int = 1024 * 1024
    cors_origins: str = ""


COMPRESSION_THREADS = 2


class HttpApplication:
    """Answers requests from the data plane: one instance a process.

    Raises `ConfigurationError` for origins that are none.
    """

    def __init__(
        self,
        plane: DataPlane,
        instance: Instance,
        metrics: MetricSet,
        config: HttpConfig,
        jobs: Jobs | None = None,
    ) -> None:
        self._plane = plane
        self._instance = instance
        self._request_timeout_s = config.request_timeout_s
        self._cors = CrossOrigins.parse(config.cors_origins)
        threads = ThreadPoolExecutor(COMPRESSION_THREADS, thread_name_prefix="compression")
        self._responder = Responder(metrics, threads, compress_bytes_min=config.compress_bytes_min)
        self._bodies = BodyDecoder(self._responder, threads, config.body_bytes_max)
        self._v2 = V2Rest(
            plane,
            instance,
            self._responder,
            name=config.name,
            version=config.version,
            request_timeout_s=config.request_timeout_s,
        )
        self._rows = RowsRest(
            plane,
            instance,
            self._responder,
            version=config.version,
            request_timeout_s=config.request_timeout_s,
        )
        self._jobs: JobsRest | None = None
        if jobs is not None:
            self._jobs = JobsRest(plane, jobs, self._responder, v2=self._v2, rows=self._rows)
        self._web = WebRest(plane, self._responder, version=config.version)

    def wants_stream(self, head: RequestHead) -> bool:
        """Whether the body is read while it arrives, as batches are."""
        return self._rows.wants_stream(head)

    def meet(self, head: RequestHead, arrived_s: float, sink: AnswerSink) -> Terms | Refusal | None:
        """Decides by the head whether a model takes the request on. Its body is not decoded then, if it is
        read at all: under pressure, what is refused must cost next to nothing.
        """
        found = self._v2.target(head.target) or self._rows.target(head.target)
        if found is None or head.method != b"POST" or b"origin" in head.headers:
            return None
        deployment, falls_back = found
        said = head.said
        try:
            if said is None:
                said = head.said = SaidTerms.read(head.headers)
        except InvalidInput:
            return None  # found again, and answered, with the body
        limits = self._plane.limits
        tenant = limits.identify(head.headers, sink.peer) if limits is not None else None
        if limits is not None and tenant is not None:
            wait_s = limits.admit(tenant, deployment.model, limits.clock.monotonic())
            if wait_s:
                deployment.over_quota()
                return self._responder.over_quota(limits.refusal(wait_s))
        rights = self._plane.rights
        granted = OF_ANYBODY if rights is None else rights.of(head.headers, sink.peer, tenant)
        criticality = max(said.criticality, granted.highest)
        admitted = False
        if falls_back and deployment.ladder is not None:
            # Whom the model would refuse, another rung may answer, but not without the inputs.
            reason = deployment.refusal_of_all(criticality)
        elif deployment.caches:
            # What its cache holds costs the model nothing, so the rest is decided when that was asked.
            reason = deployment.cap(criticality)
        else:
            caller = said.caller or sink.peer
            # A job's answer is not waited for: the time is that in which it is to be taken on.
            timeout_s = None if self._is_job(head) else said.timeout_s
            if timeout_s is not None and timeout_s > self._request_timeout_s:
                timeout_s = self._request_timeout_s
            begun_s = min(arrived_s, granted.begun_s)
            reason = deployment.refusal(begun_s, timeout_s, criticality, caller, said.retry)
            admitted = True
        if reason is not None:
            return self._responder.shed(reason)
        terms = Terms(said, sink.peer, granted, limits, tenant)
        terms.metered = tenant is not None
        terms.admitted = admitted
        return terms

    def handle(self, request: HttpRequest) -> None:
        """Answers the request, at once or when its model has answered."""
        if request.refused is not None:
            request.respond(request.refused.head, request.refused.body)
            return
        try:
            if self._cors is not None and self._cors.admit(request):
                return
            if b"content-encoding" in request.headers and request.body_stream is None:
                self._bodies.decode(request, self._answer)
            elif b"prefer" in request.headers and self._take_job(request):
                return
            elif not self._v2.infer(request) and not self._rows.invoke(request):
                self._route(request)
        except Exception as error:
            self._responder.respond_error(request, error)

    def _answer(self, request: HttpRequest) -> None:
        """Answers a request whose body has been seen to."""
        try:
            if b"prefer" in request.headers and self._take_job(request):
                return
            if not self._v2.infer(request) and not self._rows.invoke(request):
                self._route(request)
        except Exception as error:
            self._responder.respond_error(request, error)

    def refusal(self, status: int, message: str, headers: dict[bytes, bytes]) -> tuple[bytes, bytes]:
        """Further lines of the head, and the body, of an answer to what could not be received as a request."""
        lines = self._cors.lines(headers.get(b"origin")) if self._cors is not None else b""
        return lines, self._responder.refusal(status, message)

    def _is_job(self, head: RequestHead) -> bool:
        return b"prefer" in head.headers and self._jobs is not None and self._jobs.wants(head.headers)

    def _take_job(self, request: HttpRequest) -> bool:
        """Whether the request is an inference that prefers to be a job, and is one now."""
        return self._jobs is not None and self._jobs.wants(request.headers) and self._jobs.take(request)

    def _route(self, request: HttpRequest) -> None:
        """Everything but the hot path."""
        path = request.target.partition(b"?")[0].decode("latin-1")
        match path.strip("/").split("/"):
            case ["metrics"]:
                require_method(request, "GET")
                self._responder.respond_later(request, self._metrics(request))
            case ["v2", "jobs", *rest] if self._jobs is not None:
                self._jobs.route(request, rest)
            case ["v2", *rest]:
                self._v2.route(request, rest)
            case _:
                if not self._rows.route(request) and not self._web.route(request):
                    raise no_such_path(path)

    async def _metrics(self, request: HttpRequest) -> None:
        self._responder.send(request, 200, CONTENT_TYPE, (await self._instance.metrics()).encode())
