"""Jobs over HTTP: how they are asked for, looked at and cancelled."""

import asyncio
from urllib.parse import unquote

from penstock.core.errors import DeadlineExceeded, PenstockError, Refused, StorageFailed
from penstock.core.rng import unique_token
from penstock.serving.jobs.enqueueing import KeyTaken, key_taken
from penstock.serving.jobs.job import JobRecord, JobRequest, JobState, NewJob
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
from penstock.serving.protocols.terms import SaidTerms
from penstock.serving.protocols.v2.rest import V2Rest

__all__ = ["JobsRest"]

ASK_AGAIN_S = 1
ID_BYTES = 16
PATH = "/v2/jobs"
EVERYBODY = "@"
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
        self._monotonic = jobs.monotonic

    wants = staticmethod(wants_job)

    def take(self, request: HttpRequest) -> bool:
        """Takes on an inference as a job, once it was looked at; False for every other request."""
        target = request.target.decode("latin-1")
        path = target.partition("?")[0].strip("/").split("/")
        try:
            deployment = self._v2.check(request, path[1:]) if path[0] == "v2" else self._rows.check(request)
        except PenstockError as error:
            return self._refused(request, error)
        if deployment is None:
            return False
        headers = request.headers
        name = unique_token(ID_BYTES)
        asked = self._asked(request, name)
        job = NewJob(
            id=name,
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

    def _refused(self, request: HttpRequest, error: PenstockError) -> bool:
        """What is wrong with it now was not when it was taken on, perhaps: its model may be gone since."""
        key = key_of(request.headers)
        if key is not None:
            self._responder.respond_later(request, self._repeat(request, key, error))
        elif isinstance(error, InvalidRows):
            self._rows.respond_fields(request, error)
        else:
            raise error
        return True

    def _asked(self, request: HttpRequest, name: str) -> JobRequest:
        headers = request.headers
        return JobRequest(
            request.target.decode("latin-1"), kept_headers(headers, name), request.body, self._tenant(request)
        )

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
        """Whose jobs these are: the tenant's, where the app has some, else everybody's who knows their ids. An
        address is nobody: who comes through a proxy, or another one a moment later, has another.
        """
        limits = self._plane.limits
        if limits is None or not limits.tenants.has_keys:
            return EVERYBODY
        return limits.tenants.identify(request.headers, request.connection.peer)

    async def _repeat(self, request: HttpRequest, key: str, error: PenstockError) -> None:
        """Answers with the job that its key stands for already; without one, with that error."""
        tenant = self._tenant(request)
        standing = await self._jobs.standing(tenant, key)
        if standing is None:
            if isinstance(error, InvalidRows):
                self._rows.respond_fields(request, error)
                return
            raise error
        job, digest = standing
        if digest != digest_of(self._asked(request, job.id), request.headers):
            self._key_taken(request, key_taken(key, job.id))
            return
        self._acknowledge(request, job)

    def _key_taken(self, request: HttpRequest, error: KeyTaken) -> None:
        self._responder.respond(request, 422, {"error": _text(error)})

    async def _submit(self, request: HttpRequest, job: NewJob) -> None:
        try:
            async with asyncio.timeout(self._left_s(request)):
                standing, _ = await self._jobs.submit(job)
        except TimeoutError:
            raise DeadlineExceeded(
                "the job was not on the disk in the time that the request gives",
                hint="repeat it with its idempotency-key: it may have been taken on",
            ) from None
        except KeyTaken as error:
            self._key_taken(request, error)
            return
        except StorageFailed as error:
            raise Refused(
                f"the job was not taken on: {error.message}", reason=NOT_STORED, hint=error.hint
            ) from error
        self._acknowledge(request, standing)

    def _left_s(self, request: HttpRequest) -> float | None:
        """How long the request may take to be acknowledged; None: as long as that takes."""
        timeout_s = SaidTerms.read(request.headers).timeout_s
        return None if timeout_s is None else request.arrived_s + timeout_s - self._monotonic()

    def _acknowledge(self, request: HttpRequest, standing: JobRecord) -> None:
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
