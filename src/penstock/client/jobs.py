"""Jobs as a client has them: requests that are answered later."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from urllib.parse import quote, urlsplit

import msgspec

from penstock.client.errors import BadAnswer, CallRejected, CallTimedOut
from penstock.client.messages import Answer, GarbledAnswer, decode_answer
from penstock.client.sending import Sent
from penstock.core.clock import Clock
from penstock.core.errors import InvalidInput, shown

__all__ = ["AsyncJob", "JobStatus", "JobWebhook", "job_headers"]

POLL_FIRST_S = 0.02
POLL_LONGEST_S = 1.0
KEY_LENGTH_MAX = 255

AskJob = Callable[[str, str, float | None], Awaitable[Sent]]
"""Method, path and the time that it may take."""


class JobWebhook(msgspec.Struct, frozen=True, kw_only=True):
    """What became of telling the job's webhook: waiting, pending, delivered or given up."""

    url: str
    status: str
    attempts: int
    error: str = ""


class JobStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How a job was when it was asked. `status` is queued, running, done, failed, cancelled or expired."""

    id: str
    status: str
    model: str
    attempts: int
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    expires_at: datetime | None = None
    cancel_asked: bool = False
    error: str = ""
    webhook: JobWebhook | None = None

    @property
    def finished(self) -> bool:
        return self.status not in ("queued", "running")


_decoder = msgspec.json.Decoder(JobStatus)


class AsyncJob:
    """One job, of an `AsyncClient`. Any number of tasks may ask it."""

    def __init__(self, ask: AskJob, job: str | Sent, clock: Clock) -> None:
        self._ask = ask
        self._clock = clock
        self.id = job if isinstance(job, str) else _status(job).id
        self._path = f"/v2/jobs/{quote(self.id, safe='')}"

    def __repr__(self) -> str:
        return f"AsyncJob({self.id!r})"

    async def status(self, *, timeout_s: float | None = None) -> JobStatus:
        """How it is now. Raises `CallFailed`; of status 404 where it is forgotten, or another caller's."""
        return _status(await self._ask("GET", self._path, timeout_s))

    async def wait(self, timeout_s: float | None = None) -> JobStatus:
        """How it ended; as long as that takes if `timeout_s` is None. Raises `CallTimedOut`, `CallFailed`."""
        ends_s = None if timeout_s is None else self._clock.monotonic() + timeout_s
        pause_s = POLL_FIRST_S
        while True:
            left_s = None if ends_s is None else max(ends_s - self._clock.monotonic(), 0.001)
            status = await self.status(timeout_s=left_s)
            if status.finished:
                return status
            if ends_s is not None and self._clock.monotonic() + pause_s >= ends_s:
                raise CallTimedOut(
                    f"job {self.id} is {status.status} still",
                    reason="deadline",
                    hint="wait longer, or ask again",
                )
            await asyncio.sleep(pause_s)
            pause_s = min(POLL_LONGEST_S, pause_s * 1.5)

    async def result(self, timeout_s: float | None = None) -> Answer:
        """The model's answer, waited for as `wait` does.

        Raises `CallFailed`: as `infer` would have where the job failed, and of status 410 where it was
        cancelled or has expired.
        """
        await self.wait(timeout_s)
        sent = await self._ask("GET", f"{self._path}/result", None)
        try:
            return decode_answer(sent.response.body, sent.response.headers)
        except GarbledAnswer as error:
            raise _garbled(sent, error) from None

    async def cancel(self, *, timeout_s: float | None = None) -> bool:
        """It is not wanted any more. Whether that came in time: not where it is finished; one that runs may yet
        be.
        """
        try:
            await self._ask("DELETE", self._path, timeout_s)
        except CallRejected as error:
            if error.status == 409:
                return False
            raise
        return True


def job_headers(key: str, expires_s: float | None, webhook: str | None) -> str:
    """Lines of a request that is to be a job. Raises `InvalidInput` for what no header can hold."""
    if not key.isascii() or not key.isprintable() or not 0 < len(key) <= KEY_LENGTH_MAX:
        raise InvalidInput(f"key {shown(key)} cannot be one", where="key", hint="1 to 255 characters of ASCII")
    lines = f"prefer: respond-async\r\nidempotency-key: {key}\r\n"
    if expires_s is not None:
        if not expires_s > 0:
            raise InvalidInput(
                f"expires_s is {shown(expires_s)}", where="expires_s", hint="give a number of seconds above 0"
            )
        lines += f"x-job-expires-s: {expires_s!r}\r\n"
    if webhook is not None:
        if (
            urlsplit(webhook).scheme not in ("http", "https")
            or not webhook.isascii()
            or not webhook.isprintable()
        ):
            raise InvalidInput(f"webhook {shown(webhook)} is no URL", where="webhook")
        lines += f"x-webhook-url: {webhook}\r\n"
    return lines


def _status(sent: Sent) -> JobStatus:
    try:
        return _decoder.decode(sent.response.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _garbled(sent, error) from None


def _garbled(sent: Sent, error: Exception) -> BadAnswer:
    return BadAnswer(
        f"{sent.url}: it is not what is said of a job: {error}",
        status=sent.response.status,
        reason="garbled",
        attempts=sent.attempts,
        url=sent.url,
        hint="is this URL a Penstock server?",
    )
