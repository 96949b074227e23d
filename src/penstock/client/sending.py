"""Requests to several servers: attempts, hedges, deadlines, health. `call` and `endpoints` decide."""

import asyncio
from collections.abc import Callable

import msgspec

from penstock.client.budget import BudgetStatistics, RetryBudget
from penstock.client.call import Call, Failure, Kind
from penstock.client.connection import BrokenOff, GarbledHttp, HttpResponse
from penstock.client.endpoints import Endpoint, Endpoints, EndpointStatistics
from penstock.client.errors import BadAnswer, CallFailed, CallRejected
from penstock.client.hedging import HedgePolicy, LatencyQuantile
from penstock.client.pool import ConnectionPool, ConnectionSettings, NotConnected
from penstock.client.retrying import RetryPolicy, parse_retry_after_s
from penstock.core.clock import Clock

__all__ = ["ClientStatistics", "Message", "Sender", "Sent"]

PROBE_TIMEOUT_S = 1.0
TIMER_EARLY_S = 0.005
"""Event loops count in milliseconds, and may be early by as much."""
READY_PATH = "/v2/health/ready"
ERROR_SHOWN_MAX = 500
NOT_SERVING = frozenset({"", "draining"})
"""Reasons of a 503 that tell of the server; all others are about this one request, and it goes on serving."""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A request: `headers` are lines of it, each with its end. `hedged` says whether it may be sent twice."""

    method: str
    path: str
    headers: str = ""
    body: bytes = b""
    hedged: bool = False


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """The answer (status 200, or 202 for a job), the server that gave it, and how many attempts it took."""

    response: HttpResponse
    url: str
    attempts: int


class ClientStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Counts since the client was made. `attempts` are of all calls, with retries and hedges."""

    calls: int
    attempts: int
    retries: int
    hedges: int
    hedges_won: int
    failed: int
    budget: BudgetStatistics
    endpoints: list[EndpointStatistics]


class Sender:
    """Belongs to one event loop, that in which it is first used."""

    def __init__(
        self,
        endpoints: Endpoints,
        *,
        retry: RetryPolicy,
        hedge: HedgePolicy | None,
        connection: ConnectionSettings,
        clock: Clock,
        draw: Callable[[], float],
    ) -> None:
        self._endpoints = endpoints
        self._retry = retry
        self._hedge = hedge
        self._clock = clock
        self._draw = draw
        self._budget = RetryBudget(
            share=retry.budget_share,
            floor_per_s=retry.budget_floor_per_s,
            tokens_max=retry.budget_tokens_max,
        )
        self._pools = {each: ConnectionPool(each.url, connection, clock.monotonic) for each in endpoints}
        self._latency = LatencyQuantile()
        self._watch: asyncio.Task[None] | None = None
        self._closed = False
        self._calls = self._retries = self._hedges = self._hedges_won = self._failed = 0

    async def request(self, message: Message, deadline_s: float) -> Sent:
        """The answer that is none of an error. Raises a `CallFailed`; `deadline_s` is in monotonic seconds."""
        began_s = self._clock.monotonic()
        call = Call(self._retry, self._budget, self._endpoints, deadline_s=deadline_s, draw=self._draw)
        self._calls += 1
        if began_s >= deadline_s:
            self._failed += 1
            raise call.timed_out(call.asked.url, 0.0)
        endpoint = call.begin(began_s)
        try:
            async with asyncio.timeout(deadline_s - began_s) as limit:
                return await self._until_answered(call, endpoint, message)
        except TimeoutError:
            self._failed += 1
            if not limit.expired():
                raise
            raise call.timed_out(call.asked.url, deadline_s - began_s) from None
        except CallFailed:
            self._failed += 1
            raise

    async def ready(self, path: str, deadline_s: float) -> bool:
        """Whether any server answers 200 to this path within the time."""
        message = Message(method="GET", path=path)
        for endpoint in sorted(self._endpoints, key=lambda each: not each.up):
            remaining_s = deadline_s - self._clock.monotonic()
            if remaining_s <= 0:
                break
            if await self._ask_ready(endpoint, message, min(remaining_s, PROBE_TIMEOUT_S)) == "":
                return True
        return False

    def statistics(self) -> ClientStatistics:
        endpoints = self._endpoints.statistics()
        return ClientStatistics(
            calls=self._calls,
            attempts=sum(each.attempts for each in endpoints),
            retries=self._retries,
            hedges=self._hedges,
            hedges_won=self._hedges_won,
            failed=self._failed,
            budget=self._budget.statistics(),
            endpoints=endpoints,
        )

    async def close(self) -> None:
        """Ends what is under way: it fails."""
        self._closed = True
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
            self._watch = None
        for pool in self._pools.values():
            await pool.close()

    async def _until_answered(self, call: Call, endpoint: Endpoint, message: Message) -> Sent:
        hedged = self._hedge is not None and message.hedged and len(self._endpoints) > 1
        while True:
            attempt = self._hedged if hedged else self._attempt
            outcome = await attempt(call, endpoint, message)
            if isinstance(outcome, Sent):
                return outcome
            if self._closed:
                raise CallFailed("the client was closed during the call", reason="closed", url=endpoint.url)
            pause_s = call.failed(outcome, self._clock.monotonic())
            if isinstance(pause_s, CallFailed):
                raise pause_s
            if pause_s > 0:
                await asyncio.sleep(pause_s)
            self._retries += 1
            endpoint = call.choose(self._clock.monotonic())

    async def _hedged(self, call: Call, endpoint: Endpoint, message: Message) -> Sent | Failure:
        """The first answer of one attempt, or of two."""
        assert self._hedge is not None
        first = asyncio.create_task(self._attempt(call, endpoint, message))
        running = {first}
        try:
            await asyncio.wait(running, timeout=self._hedge.delay_s(self._latency))
            other = None if first.done() else call.hedge(endpoint, self._clock.monotonic())
            if other is None:
                return await first
            self._hedges += 1
            second = asyncio.create_task(self._attempt(call, other, message))
            running.add(second)
            outcome = await self._first_answer(call, running)
            self._hedges_won += isinstance(outcome, Sent) and outcome.url == other.url
            return outcome
        finally:
            unfinished = [task for task in running if not task.done()]
            for task in unfinished:
                task.cancel()
            if unfinished:
                await asyncio.gather(*unfinished, return_exceptions=True)

    async def _first_answer(self, call: Call, running: "set[asyncio.Task[Sent | Failure]]") -> Sent | Failure:
        """Where neither answers, what one of them says is final is raised, else the last failure is given: a
        server that answers wrongly, and that is asked on top, must not end a call that another one answers.
        """
        pending = set(running)
        final: CallFailed | None = None
        last: Failure | None = None
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                try:
                    outcome = task.result()
                except CallFailed as error:
                    final = final or error
                    continue
                if isinstance(outcome, Sent):
                    return outcome
                if last is not None:
                    call.note(last)
                last = outcome
        if final is not None:
            raise final
        assert last is not None, "each attempt ends in one way"
        return last

    async def _attempt(self, call: Call, endpoint: Endpoint, message: Message) -> Sent | Failure:
        endpoint.begun()
        began_s = self._clock.monotonic()
        try:
            response = await self._pools[endpoint].request(lambda: self._compose(call, endpoint, message))
        except asyncio.CancelledError:
            # A server that hangs is as good as gone; one that was only slow says so at its next probe.
            if self._clock.monotonic() >= call.deadline_s - TIMER_EARLY_S:
                self._note_failure(endpoint, "no answer before the call's deadline")
            raise
        except NotConnected as error:
            return self._broken(Kind.UNREACHABLE, endpoint, error)
        except BrokenOff as error:
            return self._broken(Kind.BROKEN, endpoint, error)
        except GarbledHttp as error:
            self._note_failure(endpoint, str(error))
            raise BadAnswer(
                f"{endpoint.url}: {error}",
                reason="garbled",
                attempts=call.attempts,
                url=endpoint.url,
                hint="is this URL a Penstock server?",
            ) from None
        finally:
            endpoint.ended()
        if response.status == 200 and self._hedge is not None:
            self._latency.add(self._clock.monotonic() - began_s)
        return self._judge(call, endpoint, response)

    def _judge(self, call: Call, endpoint: Endpoint, response: HttpResponse) -> Sent | Failure:
        status = response.status
        if status in (200, 202):
            self._endpoints.answered(endpoint)
            return Sent(response=response, url=endpoint.url, attempts=call.attempts)
        why = f"{status}: {_error_text(response.body)}"
        if status in (503, 429):
            return self._refused(endpoint, response, why)
        self._endpoints.answered(endpoint)
        if status == 504:
            raise call.timed_out(endpoint.url, 0.0, status=status)
        facts = {"status": status, "attempts": call.attempts, "url": endpoint.url}
        if 400 <= status < 500:
            raise CallRejected(f"{endpoint.url} answered {why}", reason="rejected", **facts)  # type: ignore[arg-type]
        raise BadAnswer(f"{endpoint.url} answered {why}", reason="failed", **facts)  # type: ignore[arg-type]

    def _refused(self, endpoint: Endpoint, response: HttpResponse, why: str) -> Failure:
        headers = response.headers
        reason = headers.get(b"x-shed-reason", b"").decode("latin-1")
        if response.status == 503 and reason in NOT_SERVING:
            self._note_failure(endpoint, why)
        else:
            self._endpoints.answered(endpoint)
        told = headers.get(b"retry-after")
        retry_after_s = parse_retry_after_s(None if told is None else told.decode("latin-1"), self._clock.now())
        quota = response.status == 429
        return Failure(
            kind=Kind.QUOTA if quota else Kind.REFUSED,
            endpoint=endpoint,
            why=why,
            reason=reason or ("quota" if quota else "refused"),
            status=response.status,
            retry_after_s=retry_after_s,
        )

    def _broken(self, kind: Kind, endpoint: Endpoint, error: Exception) -> Failure:
        self._pools[endpoint].drop_idle()
        self._note_failure(endpoint, str(error))
        return Failure(kind=kind, endpoint=endpoint, why=str(error), reason=kind.value)

    def _compose(self, call: Call, endpoint: Endpoint, message: Message) -> bytes:
        """The request as it is sent now: with the time that is left now."""
        pool = self._pools[endpoint]
        remaining_ms = max(1, int((call.deadline_s - self._clock.monotonic()) * 1000))
        retry = f"x-retry-attempt: {call.sent}\r\n" if call.sent else ""
        call.sent += 1
        head = (
            f"{message.method} {pool.path}{message.path} HTTP/1.1\r\nhost: {pool.authority}\r\n"
            f"x-request-timeout-ms: {remaining_ms}\r\n{retry}{message.headers}"
            f"content-length: {len(message.body)}\r\n\r\n"
        )
        return head.encode("ascii") + message.body

    def _note_failure(self, endpoint: Endpoint, why: str) -> None:
        self._endpoints.failed(endpoint, why, self._clock.monotonic())
        if not endpoint.up and (self._watch is None or self._watch.done()):
            self._watch = asyncio.create_task(self._probe_ejected())

    async def _probe_ejected(self) -> None:
        """As long as any server is ejected: asks it whether it is ready again."""
        message = Message(method="GET", path=READY_PATH)
        while (due_s := self._endpoints.next_probe_s()) is not None:
            await asyncio.sleep(max(0.0, due_s - self._clock.monotonic()))
            due = self._endpoints.due(self._clock.monotonic())
            whys = await asyncio.gather(*(self._ask_ready(each, message, PROBE_TIMEOUT_S) for each in due))
            for endpoint, why in zip(due, whys, strict=True):
                if why:
                    self._endpoints.probe_failed(endpoint, why, self._clock.monotonic())
                else:
                    self._endpoints.answered(endpoint)

    async def _ask_ready(self, endpoint: Endpoint, message: Message, timeout_s: float) -> str:
        """Why it is not ready, "" where it is."""
        pool = self._pools[endpoint]
        request = f"{message.method} {pool.path}{message.path} HTTP/1.1\r\nhost: {pool.authority}\r\n\r\n"
        try:
            async with asyncio.timeout(timeout_s):
                response = await pool.request(lambda: request.encode("ascii"))
        except TimeoutError:
            return f"no answer to {message.path} within {timeout_s:.3g} s"
        except (NotConnected, BrokenOff, GarbledHttp) as error:
            return str(error)
        return "" if response.status == 200 else f"{response.status} at {message.path}"


def _error_text(body: bytes) -> str:
    """V2's `{"error": "…"}`, or the beginning of whatever a proxy says."""
    try:
        text = msgspec.json.decode(body)["error"]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError, TypeError):
        text = body[:ERROR_SHOWN_MAX].decode("utf-8", "replace")
    return str(text)[:ERROR_SHOWN_MAX]
