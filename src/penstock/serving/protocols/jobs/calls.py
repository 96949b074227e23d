"""Runs a job: its request is asked as a client would ask it, and its answer kept as a client would get it."""

import asyncio
from functools import partial

from penstock.core.calling import Criticality
from penstock.core.clock import Clock
from penstock.core.errors import DeadlineExceeded, InvalidInput, NotFound, PenstockError, Refused
from penstock.observe.metrics import MetricSet
from penstock.serving.admission.rights import Granted
from penstock.serving.instance import Instance
from penstock.serving.jobs.job import JobAnswer, JobRequest
from penstock.serving.jobs.life import Outcome, Verdict
from penstock.serving.plane import DataPlane
from penstock.serving.protocols.http.heads import RequestHead
from penstock.serving.protocols.http.messages import HttpRequest
from penstock.serving.protocols.http.responder import Responder, no_such_path
from penstock.serving.protocols.rows.rest import RowsRest
from penstock.serving.protocols.terms import SaidTerms, Terms
from penstock.serving.protocols.v2.rest import V2Rest

__all__ = ["JobCalls"]

FAILURE = 400
SERVERS_FAILURE = 500
SAID_BYTES_MAX = 1000
_LEAST = Granted(highest=Criticality.SHEDDABLE)


class JobCalls:
    """Asks the models of a process for jobs, in the least important class: requests go first.

    Nobody is charged: that was done when the job was taken on. HTTP's own measures do not count them.
    """

    def __init__(self, plane: DataPlane, instance: Instance, clock: Clock, run_timeout_s: float) -> None:
        self._monotonic = clock.monotonic
        self._responder = _Attentive(MetricSet())
        self._v2 = V2Rest(
            plane, instance, self._responder, name="", version="", request_timeout_s=run_timeout_s
        )
        self._rows = RowsRest(plane, instance, self._responder, version="", request_timeout_s=run_timeout_s)

    def ask(self, asked: JobRequest) -> "asyncio.Future[Outcome]":
        """What will hold how it ended. Who cancels it does not want the answer any more."""
        sink = _Kept(asyncio.get_running_loop().create_future(), asked.tenant.encode())
        headers = {name.encode("latin-1"): value.encode("latin-1") for name, value in asked.headers.items()}
        head = RequestHead(b"POST", asked.target.encode("latin-1"), headers, length=len(asked.body))
        request = HttpRequest(sink, head, asked.body, self._monotonic())
        request.terms = _JobTerms(SaidTerms(criticality=Criticality.SHEDDABLE), sink.peer, _LEAST)
        try:
            if not self._v2.infer(request) and not self._rows.invoke(request):
                self._route(request)
        except Exception as error:
            self._responder.respond_error(request, error)
        sink.outcome.add_done_callback(partial(_ended, request))
        return sink.outcome

    def _route(self, request: HttpRequest) -> None:
        """Targets that nobody has asked since what is served has changed."""
        path = request.target.partition(b"?")[0].decode("latin-1")
        match path.strip("/").split("/"):
            case ["v2", *rest]:
                self._v2.route(request, rest)
            case _:
                if not self._rows.route(request):
                    raise no_such_path(path)


class _JobTerms(Terms):
    """What a request says of its own time and importance was meant for who waits for it."""

    __slots__ = ()

    def narrow(self, timeout_s: float | None, criticality: int | None) -> None:
        """Nothing of it counts."""


class _Attentive(Responder):
    """Notes with which error a request was answered: an answer does not say it."""

    def respond_error(self, request: HttpRequest, error: BaseException) -> None:
        if isinstance(request.connection, _Kept):
            request.connection.error = error
        super().respond_error(request, error)


class _Kept:
    """Where the answer to a job's request goes."""

    __slots__ = ("error", "outcome", "peer")

    def __init__(self, outcome: "asyncio.Future[Outcome]", peer: bytes) -> None:
        self.outcome = outcome
        self.peer = peer
        self.error: BaseException | None = None

    def send_answer(self, request: HttpRequest, head: bytes, body: bytes) -> None:  # noqa: ARG002 - as sinks have it
        if not self.outcome.done():
            self.outcome.set_result(_judged(JobAnswer(int(head[9:12]), head, body), self.error))

    def begin_answer(self, request: HttpRequest, head: bytes) -> None:
        raise _unforeseen(request, head)

    async def send_piece(self, request: HttpRequest, piece: bytes) -> None:
        raise _unforeseen(request, piece)

    def finish_answer(self, request: HttpRequest) -> None:
        raise _unforeseen(request)

    def abort_answer(self, request: HttpRequest) -> None:
        raise _unforeseen(request)

    def replace_body(self, request: HttpRequest, body: bytes) -> bool:
        raise _unforeseen(request, body)


def _unforeseen(request: HttpRequest, piece: bytes = b"") -> AssertionError:
    return AssertionError(f"a job's request and answer come whole: {request.target!r}, {piece[:80]!r}")


def _judged(answer: JobAnswer, error: BaseException | None) -> Outcome:
    """What an answer says of its job."""
    if error is None:
        return _judged_by_status(answer)
    said = f"{error.message}; {error.hint}" if isinstance(error, PenstockError) and error.hint else str(error)
    if isinstance(error, Refused):
        return Outcome(Verdict.REFUSED, error=said, wait_s=error.retry_after_s)
    if isinstance(error, DeadlineExceeded) and error.waited:
        return Outcome(Verdict.REFUSED, error=said)
    if isinstance(error, InvalidInput):
        # Its model takes something else by now; no later attempt would go better.
        return Outcome(Verdict.FAILED, answer, said)
    if isinstance(error, NotFound | PenstockError):
        return Outcome(Verdict.RETRY, answer, said)
    return Outcome(Verdict.RETRY, answer, answer.body.decode("utf-8", "replace"))


def _judged_by_status(answer: JobAnswer) -> Outcome:
    """Mistakes in rows are answered without an error."""
    if answer.status < FAILURE:
        return Outcome(Verdict.DONE, answer)
    said = answer.body[:SAID_BYTES_MAX].decode("utf-8", "replace")
    return Outcome(Verdict.FAILED if answer.status < SERVERS_FAILURE else Verdict.RETRY, answer, said)


def _ended(request: HttpRequest, outcome: "asyncio.Future[Outcome]") -> None:
    if outcome.cancelled() and request.on_abandoned is not None:
        request.on_abandoned()
