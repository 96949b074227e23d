"""ModelStreamInfer: many inferences over one stream."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from penstock.core.clock import Clock
from penstock.serving.admission.request_start import REQUEST_START
from penstock.serving.protocols.grpc.answers import Answers, Status
from penstock.serving.protocols.grpc.codec import parse_request
from penstock.serving.protocols.grpc.inference import NOTHING, Inference, TakenOn
from penstock.serving.protocols.grpc.libraries import Messages
from penstock.serving.protocols.grpc.receiver import Receiver, draining
from penstock.serving.protocols.grpc.wire import field

__all__ = ["STREAM_REQUESTS_MAX", "Streaming"]

log = logging.getLogger(__name__)

STREAM_REQUESTS_MAX = 64
"""Requests of one stream that are taken on and not answered; no more is read before the next answer is sent."""

STREAMED = "ModelStreamInfer"
_INFER_RESPONSE = 2


class Streaming:
    """Answers streams, with what is needed for a single inference."""

    def __init__(
        self, inference: Inference, receiver: Receiver, answers: Answers, messages: Messages, clock: Clock
    ) -> None:
        self.inference = inference
        self.receiver = receiver
        self.answers = answers
        self.messages = messages
        self.monotonic = clock.monotonic
        # Triton's clients tell by it which answer is a request's last; here each is its request's only one.
        final = messages.ModelInferResponse()
        final.parameters["triton_final_response"].bool_param = True
        self._final: bytes = final.SerializeToString()
        self._open: set[_Stream] = set()
        self._closed = False

    async def infer(self, _messages: object, context: Any, said: Mapping[bytes, bytes] = NOTHING) -> None:
        """Handles ModelStreamInfer. `said` are the terms among the client's metadata."""
        stream = _Stream(self, context, said)
        self._open.add(stream)
        failure: Exception | None = None
        try:
            if not self._closed:
                await stream.run()
        except asyncio.CancelledError:
            self.answers.count(Status.CANCELLED)
            raise
        except Exception as error:
            failure = error
        finally:
            self._open.discard(stream)
            stream.abandon()
        if failure is None and self._closed and not stream.ended:
            failure = draining()
        if failure is not None:
            await self.answers.abort(context, failure, STREAMED)

    def close(self) -> None:
        """Reads nothing more: what was taken on is answered, then the streams end."""
        self._closed = True
        for stream in list(self._open):
            stream.leave()

    def answer(self, content: bytes) -> bytes:
        return field(_INFER_RESPONSE, content + self._final)

    def error(self, error: Exception, request_id: str) -> bytes:
        text = self.answers.describe(error, STREAMED)
        error.with_traceback(None)
        self.answers.count(Status.of(error))
        response = self.messages.ModelStreamInferResponse(error_message=text)
        response.infer_response.id = request_id
        response.infer_response.parameters["triton_final_response"].bool_param = True
        content: bytes = response.SerializeToString()
        return content


class _Stream:
    """One stream: a task reads and takes on, another answers in the same order."""

    def __init__(self, streaming: Streaming, context: Any, said: Mapping[bytes, bytes]) -> None:
        self.ended = False
        """Whether the client has said that nothing more comes."""
        self._streaming = streaming
        self._context = context
        # It tells when the stream began, and would be too early for every message of it.
        self._said = {name: value for name, value in said.items() if name != REQUEST_START}
        self._slots = asyncio.Semaphore(STREAM_REQUESTS_MAX)
        self._taken: asyncio.Queue[tuple[TakenOn | Exception, str, int] | None] = asyncio.Queue()
        self._reader: asyncio.Task[None] | None = None
        self._leaving = False

    async def run(self) -> None:
        """Returns when all that was read is answered and nothing more is read."""
        self._reader = asyncio.create_task(self._read())
        try:
            await self._write()
        finally:
            self._reader.cancel()
            await asyncio.wait((self._reader,))
        if not self._reader.cancelled():
            self._reader.result()

    def leave(self) -> None:
        """Reads nothing more."""
        self._leaving = True
        if self._reader is not None:
            self._reader.cancel()

    def abandon(self) -> None:
        """What is not answered is not wanted any more."""
        while not self._taken.empty():
            item = self._taken.get_nowait()
            if item is not None:
                taken, _, size_bytes = item
                self._streaming.receiver.give_back(size_bytes)
                if isinstance(taken, TakenOn):
                    taken.answer.abandon()

    async def _read(self) -> None:
        try:
            while True:
                await self._slots.acquire()
                raw = await self._context.read()
                if type(raw) is not bytes:
                    self.ended = True
                    break
                self._taken.put_nowait(self._take_on(raw))
        finally:
            self._taken.put_nowait(None)

    def _take_on(self, raw: bytes) -> tuple[TakenOn | Exception, str, int]:
        """What becomes of a request, its id where it is known, and the bytes that it holds until then."""
        streaming = self._streaming
        arrived_s = streaming.monotonic()
        request_id = ""
        held_bytes = 0
        try:
            streaming.receiver.take(len(raw))
            held_bytes = len(raw)
            terms = streaming.inference.terms(self._context, self._said)
            message, tensors = parse_request(streaming.messages, raw)
            request_id = message.id
            taken = streaming.inference.take_on(message, tensors, arrived_s, terms)
        except Exception as error:
            return error, request_id, held_bytes
        return taken, request_id, held_bytes

    async def _write(self) -> None:
        while (item := await self._taken.get()) is not None:
            taken, request_id, held_bytes = item
            try:
                content = await self._answer(taken, request_id)
                await self._send(content)
            finally:
                self._streaming.receiver.give_back(held_bytes)
            self._slots.release()

    async def _answer(self, taken: TakenOn | Exception, request_id: str) -> bytes:
        if isinstance(taken, Exception):
            return self._streaming.error(taken, request_id)
        try:
            content = await taken.encoded()
        except Exception as error:
            return self._streaming.error(error, request_id)
        self._streaming.answers.ok.value += 1
        return self._streaming.answer(content)

    async def _send(self, content: bytes) -> None:
        await self._context.write(content)
