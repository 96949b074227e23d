"""The client for programs with threads, or with neither threads nor asyncio.

It is `AsyncClient` in an event loop of its own, in a thread. That costs a call about 60 µs and gives both
clients the same behaviour: a deadline holds whatever the server does, and the loser of a hedge is cut off.
"""

import asyncio
import os
import threading
import weakref
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import CancelledError
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

import uvloop

from penstock.client.async_client import AsyncClient
from penstock.client.errors import CallFailed
from penstock.client.hedging import HedgePolicy
from penstock.client.jobs import AsyncJob, JobStatus
from penstock.client.messages import Answer, ModelMetadata
from penstock.client.pool import ConnectionSettings
from penstock.client.retrying import RetryPolicy
from penstock.client.sending import ClientStatistics
from penstock.core.errors import InvalidInput

__all__ = ["Client", "Job"]

T = TypeVar("T")
END_TIMEOUT_S = 5.0


class _Background:
    """An event loop in a thread that does not keep the program from ending."""

    def __init__(self, client: AsyncClient) -> None:
        self.client = client
        self.pid = os.getpid()
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="penstock-client", daemon=True)
        self._thread.start()

    def result(self, calling: Coroutine[Any, Any, T]) -> T:
        """What the coroutine returns or raises. It runs in the caller's context, and inherits from it."""
        future = asyncio.run_coroutine_threadsafe(calling, self._loop)
        try:
            return future.result()
        except CancelledError:
            raise CallFailed("the client was closed during the call", reason="closed") from None
        except BaseException:
            # Ctrl-C, above all: nobody waits for it any more.
            future.cancel()
            raise

    def end(self) -> None:
        if self.pid != os.getpid() or self._loop.is_closed():
            return
        ending = asyncio.run_coroutine_threadsafe(self._end(), self._loop)
        ending.add_done_callback(lambda _: self._loop.call_soon_threadsafe(self._loop.stop))
        # The garbage collector may find the client in any thread, its own one too.
        if threading.current_thread() is not self._thread:
            self._thread.join(END_TIMEOUT_S)

    async def _end(self) -> None:
        await self.client.aclose()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            _, late = await asyncio.wait(others, timeout=1.0)
            for task in late:
                task.cancel()
            # For connections that were just being made.
            await self.client.aclose()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()


class Client:
    """Asks models at one or several Penstock servers. Threads may share it; a process that forked gets
    connections of its own.

    The parameters are those of `AsyncClient`, and so is what is raised. Close it, use it in `with`, or
    leave it: it ends with the program.
    """

    def __init__(
        self,
        urls: str | Sequence[str],
        *,
        timeout_s: float = 30.0,
        api_key: str | None = None,
        retry: RetryPolicy | None = None,
        hedge: HedgePolicy | None = None,
        connection: ConnectionSettings | None = None,
    ) -> None:
        self._make = partial(
            AsyncClient,
            urls,
            timeout_s=timeout_s,
            api_key=api_key,
            retry=retry,
            hedge=hedge,
            connection=connection,
        )
        self._unused: AsyncClient | None = self._make()
        """Made at once, so that what is wrong with the parameters is said at once."""
        self._lock = threading.Lock()
        self._background: _Background | None = None
        self._finalizer: weakref.finalize[[], Client] | None = None
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def infer(  # noqa: PLR0913 - as AsyncClient.infer
        self,
        model: str,
        inputs: Mapping[str, object],
        *,
        version: str | int | None = None,
        outputs: Sequence[str] | None = None,
        timeout_s: float | None = None,
        criticality: str | int | None = None,
        id: str | None = None,  # noqa: A002 - V2 calls it so
    ) -> Answer:
        """The model's answer, as `AsyncClient.infer` gives it."""
        background = self._running()
        return background.result(
            background.client.infer(
                model,
                inputs,
                version=version,
                outputs=outputs,
                timeout_s=timeout_s,
                criticality=criticality,
                id=id,
            )
        )

    def submit(  # noqa: PLR0913 - as AsyncClient.submit
        self,
        model: str,
        inputs: Mapping[str, object],
        *,
        version: str | int | None = None,
        outputs: Sequence[str] | None = None,
        timeout_s: float | None = None,
        key: str | None = None,
        expires_s: float | None = None,
        webhook: str | None = None,
    ) -> "Job":
        """A job that answers the same later, as `AsyncClient.submit` gives it."""
        background = self._running()
        job = background.result(
            background.client.submit(
                model,
                inputs,
                version=version,
                outputs=outputs,
                timeout_s=timeout_s,
                key=key,
                expires_s=expires_s,
                webhook=webhook,
            )
        )
        return Job(self, job.id)

    def job(self, id: str) -> "Job":  # noqa: A002 - what it is called in answers
        """The job with this id, as `AsyncClient.job` has it."""
        return Job(self, id)

    def metadata(
        self, model: str, version: str | int | None = None, *, timeout_s: float | None = None
    ) -> ModelMetadata:
        """What the model takes and gives, as `AsyncClient.metadata` gives it."""
        background = self._running()
        return background.result(background.client.metadata(model, version, timeout_s=timeout_s))

    def ready(
        self, model: str | None = None, version: str | int | None = None, *, timeout_s: float | None = None
    ) -> bool:
        """Whether any of the servers is ready, as `AsyncClient.ready` has it."""
        background = self._running()
        return background.result(background.client.ready(model, version, timeout_s=timeout_s))

    def statistics(self) -> ClientStatistics:
        client = self._unused if self._background is None else self._background.client
        assert client is not None, "it is there until the loop takes it"
        return client.statistics()

    def close(self) -> None:
        """Ends its connections and its thread; calls under way fail."""
        with self._lock:
            self._closed = True
            if self._finalizer is not None:
                self._finalizer()

    def ask_job(self, id: str, ask: Callable[[AsyncJob], Coroutine[Any, Any, T]]) -> T:  # noqa: A002 - likewise
        """What `ask` gives for the job with this id. `Job` has a method for each thing to ask."""
        background = self._running()
        return background.result(ask(background.client.job(id)))

    def _running(self) -> _Background:
        background = self._background
        if background is not None and background.pid == os.getpid() and not self._closed:
            return background
        with self._lock:
            if self._closed:
                raise InvalidInput("this client is closed", hint="make another one")
            if self._background is None or self._background.pid != os.getpid():
                # Threads do not live on in a forked process, and its connections are the parent's.
                self._background = _Background(self._unused or self._make())
                self._unused = None
                self._finalizer = weakref.finalize(self, self._background.end)
            return self._background


class Job:
    """One job, of a `Client`. Threads may share it; what it raises is what `AsyncJob` does."""

    def __init__(self, client: Client, id: str) -> None:  # noqa: A002 - what it is called in answers
        self._client = client
        self.id = id

    def __repr__(self) -> str:
        return f"Job({self.id!r})"

    def status(self, *, timeout_s: float | None = None) -> JobStatus:
        """How it is now, as `AsyncJob.status` has it."""
        return self._client.ask_job(self.id, lambda job: job.status(timeout_s=timeout_s))

    def wait(self, timeout_s: float | None = None) -> JobStatus:
        """How it ended, as `AsyncJob.wait` has it."""
        return self._client.ask_job(self.id, lambda job: job.wait(timeout_s))

    def result(self, timeout_s: float | None = None) -> Answer:
        """The model's answer, as `AsyncJob.result` has it."""
        return self._client.ask_job(self.id, lambda job: job.result(timeout_s))

    def cancel(self, *, timeout_s: float | None = None) -> bool:
        """It is not wanted any more, as `AsyncJob.cancel` has it."""
        return self._client.ask_job(self.id, lambda job: job.cancel(timeout_s=timeout_s))
