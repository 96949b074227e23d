"""ModelInfer and ModelStreamInfer: from a call to the data plane and back."""

import asyncio
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from penstock.core.clock import Clock
from penstock.core.errors import PenstockError
from penstock.serving.batching.pending import Answer
from penstock.serving.deployment import Deployment
from penstock.serving.plane import DataPlane
from penstock.serving.protocols.grpc.answers import Answers, Status
from penstock.serving.protocols.grpc.codec import GrpcCodec, GrpcRequest, parse_request
from penstock.serving.protocols.grpc.gathering import Gathering
from penstock.serving.protocols.grpc.libraries import Messages
from penstock.serving.protocols.grpc.receiver import Receiver
from penstock.serving.protocols.terms import Terms, read_terms

__all__ = ["NOTHING", "Inference", "TakenOn"]

UNARY = "ModelInfer"
NOTHING: Mapping[bytes, bytes] = MappingProxyType({})


class TakenOn(NamedTuple):
    """A request that the data plane has accepted."""

    codec: GrpcCodec
    request: GrpcRequest
    answer: Answer

    async def encoded(self) -> bytes:
        """The answer's message. Raises what the model's answer raises. Cancelled, the request is abandoned."""
        future = self.answer.future
        try:
            rows = await future
        except asyncio.CancelledError:
            self.answer.abandon()
            raise
        return self.codec.encode(self.request, rows)


class Inference:
    """Answers inferences from the data plane."""

    def __init__(
        self,
        plane: DataPlane,
        receiver: Receiver,
        answers: Answers,
        messages: Messages,
        clock: Clock,
        request_timeout_s: float,
    ) -> None:
        self._plane = plane
        self._receiver = receiver
        self._answers = answers
        self._messages = messages
        self._monotonic = clock.monotonic
        self._request_timeout_s = request_timeout_s
        self._gathering = Gathering()
        self._codecs: dict[Deployment, GrpcCodec] = {}
        plane.on_changed(self._served_changed)

    async def infer(self, _messages: object, context: Any, said: Mapping[bytes, bytes] = NOTHING) -> bytes:
        """Handles ModelInfer. `said` are the terms among the client's metadata."""
        arrived_s = self._monotonic()
        held_bytes = 0
        self._gathering.enter()
        try:
            # Before the message: what is left of the deadline counts from now, however long that takes to come.
            terms = self.terms(context, said)
            raw = await self._receiver.receive(context)
            self._receiver.take(len(raw))
            held_bytes = len(raw)
            content = await self._answer(raw, arrived_s, terms)
            self._answers.ok.value += 1
            return content
        except asyncio.CancelledError:
            self._answers.count(Status.CANCELLED)
            raise
        except Exception as error:
            failure = error
        finally:
            self._gathering.leave()
            self._receiver.give_back(held_bytes)
        await self._answers.abort(context, failure, UNARY)
        raise AssertionError("abort raises")

    async def _answer(self, raw: bytes, arrived_s: float, terms: Terms) -> bytes:
        message, tensors = parse_request(self._messages, raw)
        await self._gathering.turn()
        return await self.take_on(message, tensors, arrived_s, terms).encoded()

    def terms(self, context: Any, said: Mapping[bytes, bytes]) -> Terms:
        """The terms of a call's requests. Raises `InvalidInput` for metadata that make none."""
        terms = read_terms(said, _peer(context), self._plane.limits, self._plane.rights)
        terms.narrow(context.time_remaining(), None)
        return terms

    def take_on(self, message: Any, tensors: Any, arrived_s: float, terms: Terms) -> TakenOn:
        """Hands a request to its model. Raises `InvalidInput`, `NotFound` and what the deployment raises."""
        deployment = self._plane.find(message.model_name, message.model_version or None)
        codec = self._codecs.get(deployment) or self._codec(deployment)
        try:
            request = codec.decode(message, tensors)
        except PenstockError as error:
            deployment.refused(error)
            raise
        terms.narrow(request.timeout_s, request.priority)
        terms.falls_back = not message.model_version
        if deployment.recorder is not None:
            request = request._replace(id=terms.predict(request.id, NOTHING))
        answer = deployment.infer(
            terms.inference(deployment, request.tensors, arrived_s, self._request_timeout_s)
        )
        return TakenOn(codec, request, answer)

    def _codec(self, deployment: Deployment) -> GrpcCodec:
        codec = self._codecs[deployment] = GrpcCodec(
            self._messages,
            model=deployment.model,
            version=deployment.version,
            signature=deployment.signature,
        )
        return codec

    def _served_changed(self) -> None:
        served = set(self._plane.deployments())
        self._codecs = {each: codec for each, codec in self._codecs.items() if each in served}


def _peer(context: Any) -> bytes:
    """The client's address, without its port."""
    address: str = context.peer()
    return address.rpartition(":")[0].encode()
