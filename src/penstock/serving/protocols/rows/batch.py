"""One batch: rows stream in, go through the model in chunks behind all interactive requests, and stream out.

A reader decodes chunks and submits them, a writer awaits them in order and sends what they gave. Between the
two are a few chunks and no more: while the client does not read, or the model has more urgent work, the
client's sending comes to a halt too.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from penstock.core.calling import Criticality
from penstock.core.clock import Clock
from penstock.core.errors import InvalidInput, ModelFailed, PenstockError, Refused
from penstock.serving.batching.pending import Answer
from penstock.serving.deployment import Deployment
from penstock.serving.inference import Inference
from penstock.serving.protocols.http.compression import body_reader
from penstock.serving.protocols.http.messages import HttpRequest
from penstock.serving.protocols.rows.chunks import Chunk, Sink, Source
from penstock.serving.protocols.terms import Terms

__all__ = ["BATCH_CRITICALITY", "Batch", "BatchPlan"]

BATCH_CRITICALITY = Criticality.SHEDDABLE_PLUS
"""Of a batch that does not say: interactive requests go first."""
CHUNKS_WAITING_MAX = 2
PAUSE_S_MAX = 1.0
"""Between reader and writer; each of the two holds one more."""


@dataclass(frozen=True, kw_only=True)
class BatchPlan:
    """How a batch is answered. `timeout_s` is the deadline of each chunk from when it is submitted; `head` the
    answer's, and `on_begun` is called when that is sent.
    """

    deployment: Deployment
    source: Source
    sink: Sink
    head: bytes
    timeout_s: float
    criticality: int
    terms: Terms
    on_begun: Callable[[], object]


class _Gone(PenstockError):
    """The version that answers is served no more."""


@dataclass(frozen=True, kw_only=True)
class _Submitted:
    """A chunk with what will hold its answer, or why there is none."""

    chunk: Chunk
    answer: Answer | PenstockError


class Batch:
    """Answers one request."""

    def __init__(self, plan: BatchPlan, request: HttpRequest, clock: Clock) -> None:
        self._plan = plan
        self._request = request
        self._clock = clock
        self._between: asyncio.Queue[list[_Submitted] | None] = asyncio.Queue(CHUNKS_WAITING_MAX)
        self._pending: set[Answer] = set()
        self._begun = False

    async def run(self) -> None:
        """Reads, predicts and answers to the end. Raises `PenstockError` where the answer cannot go on, and
        `HttpHungUp`; a cancelled batch leaves nothing behind for the model to do.
        """
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._read())
                await self._write()
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        finally:
            for pending in self._pending:
                pending.abandon()

    async def _read(self) -> None:
        async for chunk in self._chunks():
            submitted = await self._submit(chunk)
            await self._between.put(submitted)
            if any(isinstance(each.answer, _Gone) for each in submitted):
                break
            # Other requests get their turn, whatever this one still has in its hands.
            await asyncio.sleep(0)
        await self._between.put(None)

    async def _chunks(self) -> AsyncIterator[Chunk]:
        stream = body_reader(self._request)
        source = self._plan.source
        while data := await stream.read():
            for chunk in source.feed(data):
                yield chunk
        for chunk in source.end():
            yield chunk

    async def _submit(self, chunk: Chunk) -> list[_Submitted]:
        """The chunk on its way; where a row of it is at fault, its rows apart."""
        try:
            return [_Submitted(chunk=chunk, answer=await self._infer(chunk))]
        except InvalidInput as error:
            if chunk.rows > 1:
                return [each for row in chunk.apart() for each in await self._submit(row)]
            return [_Submitted(chunk=chunk, answer=chunk.explain(error))]
        except PenstockError as error:
            return [_Submitted(chunk=chunk, answer=error)]

    async def _infer(self, chunk: Chunk) -> Answer:
        """Takes its place in the queue, and waits for one while there is none."""
        tensors = chunk.tensors()
        deployment = self._plan.deployment
        await self._pay(chunk.rows)
        while True:
            now_s = self._clock.monotonic()
            try:
                answer = deployment.infer(
                    Inference(
                        tensors,
                        now_s,
                        now_s + self._plan.timeout_s,
                        criticality=self._plan.criticality,
                        caller=self._plan.terms.caller,
                        prediction=self._plan.terms.prediction,
                        first_row=chunk.number - 1,
                    )
                )
            except Refused as error:
                if error.reason == "draining":
                    raise _Gone(
                        f"version {deployment.version} of {deployment.model!r} is not served any more; "
                        "the rows from here on were not predicted",
                        hint="send them again",
                    ) from None
                if error.reason == "unhealthy":
                    raise
                await asyncio.sleep(error.retry_after_s)
                continue
            self._pending.add(answer)
            return answer

    async def _pay(self, rows: int) -> None:
        """Charges its tenant with rows: as fast as the rate limit lets it go, no faster."""
        deployment, terms = self._plan.deployment, self._plan.terms
        if terms.limits is None or terms.tenant is None:
            return
        most = terms.limits.burst_rows(terms.tenant, deployment.model)
        while rows > 0:
            piece = rows if rows <= most else max(1, int(most))
            wait_s = terms.limits.take(
                terms.tenant, deployment.model, piece, self._clock.monotonic(), counted=terms.metered
            )
            if wait_s == float("inf"):
                most = terms.limits.burst_rows(terms.tenant, deployment.model)  # it was lowered a moment ago
            elif wait_s:
                # Not past what a change of the limit would find asleep.
                await asyncio.sleep(min(wait_s, PAUSE_S_MAX))
            else:
                terms.metered = True
                rows -= piece

    async def _write(self) -> None:
        sink = self._plan.sink
        while (chunks := await self._between.get()) is not None:
            for each in chunks:
                await self._send(await self._answer(each))
                if isinstance(each.answer, _Gone):
                    break
        await self._send(sink.end())
        self._request.finish()

    async def _answer(self, submitted: _Submitted) -> bytes:
        """What a chunk gave, as it is sent."""
        chunk, answer = submitted.chunk, submitted.answer
        sink = self._plan.sink
        if isinstance(answer, PenstockError):
            return self._errors(chunk, answer)
        try:
            rows = await answer.future
        except asyncio.CancelledError:
            answer.abandon()  # its future is cancelled by now, but it may wait for its turn yet
            raise
        except InvalidInput as error:
            if chunk.rows == 1 or not sink.by_row:
                return self._errors(chunk, error)
            return b"".join([await self._answer(each) for each in await self._submit_apart(chunk)])
        except PenstockError as error:
            return self._errors(chunk, error)
        finally:
            self._pending.discard(answer)
        try:
            return sink.encode(rows)
        except ValueError as error:
            raise ModelFailed(f"the model's answer cannot be written: {error}") from None

    async def _submit_apart(self, chunk: Chunk) -> list[_Submitted]:
        return [each for row in chunk.apart() for each in await self._submit(row)]

    def _errors(self, chunk: Chunk, error: PenstockError) -> bytes:
        """A chunk's error in the place of each of its rows; of the whole rest, once."""
        sink = self._plan.sink
        rows = 1 if isinstance(error, _Gone) else chunk.rows
        return b"".join([sink.error(chunk.number + row, error) for row in range(rows)])

    async def _send(self, piece: bytes) -> None:
        if not self._begun:
            self._begun = True
            self._plan.on_begun()
            self._request.begin(self._plan.head)
        await self._request.send(piece)
