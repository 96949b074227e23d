"""Which method is handled by what."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol

from penstock.core.errors import InvalidInput, Unsupported
from penstock.serving.protocols.grpc.answers import Answers, Status
from penstock.serving.protocols.grpc.health import HEALTH, INFERENCE, Health
from penstock.serving.protocols.grpc.inference import Inference
from penstock.serving.protocols.grpc.libraries import GrpcLibraries, Messages
from penstock.serving.protocols.grpc.management import Management
from penstock.serving.protocols.grpc.receiver import Receiver
from penstock.serving.protocols.grpc.streaming import Streaming
from penstock.serving.protocols.terms import NAMES

__all__ = ["Methods"]

REFLECTIONS = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
"""One and the same service under its two names."""

METHOD_SHOWN_MAX = 200

Manage = Callable[[Any], Awaitable[Any]]


class _CallDetails(Protocol):
    method: str
    invocation_metadata: tuple[tuple[str, str | bytes], ...]


class Methods:
    """A generic handler, as grpc.aio takes them: it is asked once a call.

    Calls of one message are registered as if a stream of them came in, which is the same on the wire. Their
    handlers start before the message is there and receive it themselves: it has a time to arrive in, and what
    is no message gets a clear answer.
    """

    def __init__(
        self, libraries: GrpcLibraries, messages: Messages, receiver: Receiver, answers: Answers
    ) -> None:
        self._grpc = libraries.grpc
        self._libraries = libraries
        self._messages = messages
        self._receiver = receiver
        self._answers = answers
        self._handlers: dict[str, Any] = {}
        self._timed: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {}

    def service(self, details: _CallDetails) -> Any:
        """The handler of a call."""
        method = details.method
        handler = self._handlers.get(method)
        if handler is None:
            return self._grpc.stream_unary_rpc_method_handler(partial(self._unknown, method))
        if method in self._timed:
            said = {
                key.encode(): value.encode() if isinstance(value, str) else value
                for key, value in details.invocation_metadata
                if key in NAMES
            }
            if said:
                make, handle = self._timed[method]
                return make(partial(handle, said=said))
        return handler

    def add_inference(self, inference: Inference, streaming: Streaming) -> None:
        for name, make, handle in (
            ("ModelInfer", self._grpc.stream_unary_rpc_method_handler, inference.infer),
            ("ModelStreamInfer", self._grpc.stream_stream_rpc_method_handler, streaming.infer),
        ):
            self._handlers[f"/{INFERENCE}/{name}"] = make(handle)
            self._timed[f"/{INFERENCE}/{name}"] = (make, handle)

    def add_management(self, management: Management) -> None:
        for name, handle in (
            ("ServerLive", management.server_live),
            ("ServerReady", management.server_ready),
            ("ModelReady", management.model_ready),
            ("ServerMetadata", management.server_metadata),
            ("ModelMetadata", management.model_metadata),
            ("ModelConfig", management.model_config),
            ("ModelStatistics", management.model_statistics),
            ("RepositoryIndex", management.repository_index),
            ("RepositoryModelLoad", management.repository_model_load),
            ("RepositoryModelUnload", management.repository_model_unload),
        ):
            self._add_unary(f"/{INFERENCE}/{name}", getattr(self._messages, f"{name}Request"), handle)

    def add_health(self, health: Health) -> None:
        self._add_unary(f"/{HEALTH}/Check", self._libraries.health_messages.HealthCheckRequest, health.check)
        self._handlers[f"/{HEALTH}/Watch"] = self._grpc.stream_stream_rpc_method_handler(health.watch)

    def add_reflection(self) -> None:
        """Tells clients that ask which services there are, and their messages."""
        pool = self._messages.pool
        messages = self._libraries.reflection_messages
        pool.AddSerializedFile(self._libraries.health_messages.DESCRIPTOR.serialized_pb)
        pool.AddSerializedFile(messages.DESCRIPTOR.serialized_pb)
        names = (INFERENCE, HEALTH, REFLECTIONS[1])
        servicer = self._libraries.reflection.aio.ReflectionServicer(names, pool=pool)
        handler = self._grpc.stream_stream_rpc_method_handler(
            servicer.ServerReflectionInfo,
            request_deserializer=messages.ServerReflectionRequest.FromString,
            response_serializer=messages.ServerReflectionResponse.SerializeToString,
        )
        for name in REFLECTIONS:
            self._handlers[f"/{name}/ServerReflectionInfo"] = handler

    def _add_unary(self, method: str, request_class: Any, handle: Manage) -> None:
        handler = partial(self._manage, method, request_class, handle)
        self._handlers[method] = self._grpc.stream_unary_rpc_method_handler(handler)

    async def _manage(
        self, method: str, request_class: Any, handle: Manage, _messages: object, context: Any
    ) -> bytes:
        try:
            raw = await self._receiver.receive(context)
            content: bytes = (await handle(_parse(request_class, raw))).SerializeToString()
            self._answers.ok.value += 1
            return content
        except asyncio.CancelledError:
            self._answers.count(Status.CANCELLED)
            raise
        except Exception as error:
            failure = error
        await self._answers.abort(context, failure, method)
        raise AssertionError("abort raises")

    async def _unknown(self, method: str, _messages: object, context: Any) -> None:
        error = Unsupported(
            f"{method[:METHOD_SHOWN_MAX]} is not served here",
            hint="shared memory, traces and log settings are not offered; reflection lists what is",
        )
        await self._answers.abort(context, error, method)


def _parse(request_class: Any, raw: bytes) -> Any:
    try:
        return request_class.FromString(raw)
    except Exception as error:  # protobuf's own, a ValueError or more: the bytes are at fault
        raise InvalidInput(
            f"the message is not a {request_class.DESCRIPTOR.name}: {error}", where="message"
        ) from None
