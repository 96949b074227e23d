"""The libraries that gRPC needs, and the messages made with them. Loaded when a server is made: they come
with an extra, and processes that speak no gRPC need not carry them.
"""

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from penstock.core.errors import ConfigurationError

__all__ = ["GrpcLibraries", "Messages", "load_libraries", "load_messages"]

DESCRIPTORS = Path(__file__).with_name("inference.binpb")


class Messages:
    """The message classes of inference.proto, by their names.

    They stand in a pool of descriptors of their own. In the one that all of a process share, they would clash
    with those of Triton's or KServe's client, which an app's models may well use.
    """

    def __init__(self, pool: Any, classes: dict[str, Any]) -> None:
        self.pool = pool
        self._classes = classes

    def __getattr__(self, name: str) -> Any:
        try:
            return self._classes[name]
        except KeyError:
            raise AttributeError(name) from None


class GrpcLibraries(NamedTuple):
    """Modules of grpcio and its companions, which have no types."""

    grpc: Any
    health_messages: Any
    reflection: Any
    reflection_messages: Any


@cache
def load_messages() -> Messages:
    """The messages; made once. Raises `ImportError` where protobuf is missing."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    files = descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTORS.read_bytes())
    pool = descriptor_pool.DescriptorPool()
    classes: dict[str, Any] = {}
    for file in files.file:
        pool.Add(file)
        for message in file.message_type:
            full_name = f"{file.package}.{message.name}"
            classes[message.name] = message_factory.GetMessageClass(pool.FindMessageTypeByName(full_name))
    return Messages(pool, classes)


def load_libraries() -> GrpcLibraries:
    """The modules. Raises `ConfigurationError` where one is missing."""
    try:
        import grpc
        import grpc.aio
        from grpc_health.v1 import health_pb2
        from grpc_reflection.v1alpha import reflection, reflection_pb2

        load_messages()
    except ImportError as error:
        raise ConfigurationError(
            f"gRPC is asked for with server.grpc_port, and {error.name or 'a library for it'} is not installed",
            hint="pip install 'penstock[grpc]', or leave server.grpc_port at -1",
        ) from error
    return GrpcLibraries(grpc, health_pb2, reflection, reflection_pb2)
