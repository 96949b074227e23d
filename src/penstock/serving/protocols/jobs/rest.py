"""Jobs over HTTP: how they are asked for, looked at and cancelled."""

from urllib.parse import unquote

from penstock.core.errors import PenstockError, Refused, StorageFailed
from penstock.core.rng import unique_token
from penstock.serving.jobs.enqueueing import KeyTaken
from penstock.serving.jobs.job import JobRequest, JobState, NewJob
from penstock.serving.jobs.service import JobNotDone, Jobs
from penstock.serving.plane import DataPlane
from penstock.serving.protocols.http.messages import HttpRequest
from penstock.serving.protocols.http.responder import (
    Headers,
    MethodNotAllowed,
    Responder,
    no_such_path,
    require_method,
)
from penstock.serving.protocols.jobs.preferences import (
    digest_of,
    kept_headers,
    key_of,
    wait_us_max,
    wants_job,
    webhook_of,
)
from penstock.serving.protocols.rows.fields import InvalidRows
from penstock.serving.protocols.rows.rest import RowsRest
from penstock.serving.protocols.v2.rest import V2Rest

__all__ = ["JobsRest"]

ASK_AGAIN_S = 1
ID_BYTES = 16
PATH = "/v2/jobs"
NOT_STORED = "jobs_storage"
"""What `x-shed-reason` says where the disk is full, or the database cannot be written."""


class JobsRest:
    """Answers inferences that prefer to be jobs, and what is under `/v2/jobs`."""

    def __init__(
        self, plane: DataPlane, jobs: Jobs, responder: Responder, *, v2: V2Rest, rows: RowsRest
    ) -> None:
        self._plane = plane
        self._jobs = jobs
        self._responder = responder
        self._v2 = v2
        self._rows = rows

    wants = staticmethod(wants_job)

    def take(self, request: HttpRequest) -> bool:
        """Takes on an inference as a job, once it was looked at; False for every other request."""
        target = request.target.decode("latin-1")
        path = target.partition("?")[0].strip("/").split("/")
        try:
            deployment = self._v2.check(request, path[1:]) if path[0] == "v2" else self._rows.check(request)
        except InvalidRows as error:
            self._rows.respond_fields(request, error)
            return True
        if deployment is None:
            return False
        headers = request.headers
        asked = JobRequest(target, kept_headers(headers), request.body, self._tenant(request))
        job = NewJob(
            id=unique_token(ID_BYTES),
            model=deployment.model,
            digest=digest_of(asked, headers),
            request=asked,
            key=key_of(headers),
            wait_us_max=wait_us_max(headers),
            webhook=webhook_of(headers),
        )
        if job.webhook is not None:
            self._jobs.check_webhook(job.webhook)
        self._responder.respond_later(request, self._submit(request, job))
        return True

    def route(self, request: HttpRequest, path: list[str]) -> None:
        """`path` is what follows `/v2/jobs`, percent-encoded as it came."""
        match [unquote(part) for part in path]:
            case [name] if name and request.method == b"DELETE":
                self._responder.respond_later(request, self._cancel(request, name))
            case [name] if name:
                if request.method not in (b"GET", b"HEAD"):
                    given = request.method.decode("latin-1")
                    raise MethodNotAllowed(
                        f"this path takes GET and DELETE, not {given}", allowed="GET, HEAD, DELETE"
                    )
                self._responder.respond_later(request, self._show(request, name))
            case [name, "result"] if name:
                require_method(request, "GET")
                self._responder.respond_later(request, self._result(request, name))
            case _:
                raise no_such_path("/".join((PATH, *path)))

    def _tenant(self, request: HttpRequest) -> str:
        peer, limits = request.connection.peer, self._plane.limits
        if limits is None:
            return f"@{peer.decode('latin-1')}"
        return limits.tenants.identify(request.headers, peer)

    async def _submit(self, request: HttpRequest, job: NewJob) -> None:
        try:
            standing, _ = await self._jobs.submit(job)
        except KeyTaken as error:
            said = f"{error.message}; {error.hint}"
            self._responder.respond(request, 422, {"error": said})
            return
        except StorageFailed as error:
            raise Refused(
                f"the job was not taken on: {error.message}", reason=NOT_STORED, hint=error.hint
            ) from error
        further: Headers = (("location", f"{PATH}/{standing.id}"), ("preference-applied", "respond-async"))
        if standing.state.final:
            # What its key stands for is finished already.
            self._responder.respond(request, 200, standing.view(), further)
            return
        self._responder.respond(request, 202, standing.view(), (*further, ("retry-after", str(ASK_AGAIN_S))))

    async def _show(self, request: HttpRequest, name: str) -> None:
        job = await self._jobs.find(name, self._tenant(request))
        further: Headers = () if job.state.final else (("retry-after", str(ASK_AGAIN_S)),)
        self._responder.respond(request, 200, job.view(), further)

    async def _result(self, request: HttpRequest, name: str) -> None:
        try:
            job, answer = await self._jobs.result(name, self._tenant(request))
        except JobNotDone as error:
            further: Headers = (("retry-after", str(ASK_AGAIN_S)),)
            self._responder.respond(request, 409, {"error": _text(error)}, further)
            return
        if answer is not None:
            self._responder.count(answer.status)
            self._responder.deliver(request, answer.head, answer.body)
            return
        said = f"job {name} {_ENDED[job.state]}" + (f": {job.error}" if job.error else "")
        status = 500 if job.state is JobState.FAILED else 410
        self._responder.respond(request, status, {"error": said})

    async def _cancel(self, request: HttpRequest, name: str) -> None:
        job = await self._jobs.cancel(name, self._tenant(request))
        self._responder.respond(request, 200 if job.state.final else 202, job.view())


_ENDED = {
    JobState.DONE: "was answered, and the answer is not there any more",
    JobState.FAILED: "failed",
    JobState.CANCELLED: "was cancelled",
    JobState.EXPIRED: "waited longer than it might",
}


def _text(error: PenstockError) -> str:
    return f"{error.message}; {error.hint}" if error.hint else error.message
