"""The gRPC server from bind to abort: the port, health, reflection, retiring and stopping."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_serving import (
    MESSAGES,
    PATIENCE_S,
    SERVICE,
    Instance,
    channel,
    infer,
    infer_request,
    numbers,
    raw_call,
    serving,
    status_of,
)

from penstock.core.clock import SystemClock
from penstock.core.errors import ConfigurationError
from penstock.observe.metrics import MetricSet
from penstock.serving.plane import DataPlane
from penstock.serving.protocols.grpc.server import GrpcConfig, GrpcServer

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


def bind(**config: Any) -> int:
    """The port that a server takes, which is never started."""

    async def scenario() -> int:
        clock, metrics = SystemClock(), MetricSet()
        plane = DataPlane(metrics, clock)
        settings: dict[str, Any] = {"name": "p", "version": "1", "host": "127.0.0.1", "port": 0, **config}
        server = GrpcServer(plane, Instance(plane), metrics, clock, GrpcConfig(**settings))
        try:
            return server.bind()
        finally:
            await server.stop(0.0)

    return asyncio.run(scenario())


@pytest.mark.parametrize("shared", [False, True])
def test_a_port_in_use_is_refused(shared: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"port {port} on 127.0.0.1 is in use") as caught:
            bind(port=port, shared=shared)
    assert "server.grpc_port" in str(caught.value.hint)


def test_a_server_that_never_started_gives_its_port_back() -> None:
    port = bind()
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_another_server_has_the_port() -> None:
    with serving() as served, pytest.raises(ConfigurationError, match="in use"):
        bind(port=served.port)


def test_servers_that_share_a_port() -> None:
    with serving(shared=True) as first, serving(shared=True, port=first.port) as second:
        assert second.port == first.port
        for _ in range(20):
            with channel(first) as opened:
                infer(opened, infer_request((1, 2)))
        counted = [served.answers().get("OK", 0) for served in (first, second)]
        assert sum(counted) == 20


@pytest.mark.parametrize("host", ["203.0.113.1", "nothing.invalid"])
def test_a_host_that_is_not_here(host: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot listen on") as caught:
        bind(host=host)
    assert "--host" in str(caught.value.hint)


def test_health_follows_the_instance() -> None:
    with serving() as served, channel(served) as opened:
        health = health_pb2_grpc.HealthStub(opened)
        for service in ("", "inference.GRPCInferenceService"):
            assert health.Check(health_pb2.HealthCheckRequest(service=service)).status == SERVING
        with pytest.raises(grpc.RpcError) as caught:
            health.Check(health_pb2.HealthCheckRequest(service="other"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        watched = health.Watch(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S)
        unknown = health.Watch(health_pb2.HealthCheckRequest(service="other"), timeout=PATIENCE_S)
        assert next(watched).status == SERVING
        assert next(unknown).status == SERVICE_UNKNOWN
        served.late.fault = "it crashed"
        assert next(watched).status == NOT_SERVING
        assert health.Check(health_pb2.HealthCheckRequest()).status == NOT_SERVING
        served.late.fault = None
        assert next(watched).status == SERVING
        served.do(served.server.retire)
        assert next(watched).status == NOT_SERVING
        assert numbers(infer(opened, infer_request((1, 2)))) == [[2, 4]]
        unknown.cancel()


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection(version: str) -> None:
    with serving() as served, channel(served) as opened:
        ask = opened.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        services, file = ask(
            iter(
                [
                    reflection_pb2.ServerReflectionRequest(list_services=""),
                    reflection_pb2.ServerReflectionRequest(
                        file_containing_symbol="inference.GRPCInferenceService"
                    ),
                ]
            ),
            timeout=PATIENCE_S,
        )
    names = {each.name for each in services.list_services_response.service}
    assert {"inference.GRPCInferenceService", "grpc.health.v1.Health"} <= names
    (described,) = file.file_descriptor_response.file_descriptor_proto
    (service,) = descriptor_pb2.FileDescriptorProto.FromString(described).service
    assert "ModelStreamInfer" in [method.name for method in service.method]


def test_stopping_answers_what_was_taken_on() -> None:
    with serving() as served, channel(served) as opened:
        served.late.gate.clear()
        taken = raw_call(opened).future(infer_request((1, 2)).SerializeToString())
        assert served.late.began.acquire(timeout=PATIENCE_S)
        leave = threading.Event()

        def requests() -> Iterator[bytes]:
            yield infer_request((3, 4), request_id="s").SerializeToString()
            leave.wait(PATIENCE_S)

        streamed = opened.stream_stream(SERVICE + "ModelStreamInfer")(requests(), timeout=PATIENCE_S)
        pending = opened.stream_unary(SERVICE + "ModelInfer").future(requests(), timeout=PATIENCE_S)
        idle = opened.stream_stream(SERVICE + "ModelStreamInfer")(iter_until(leave), timeout=PATIENCE_S)
        silent = opened.stream_unary(SERVICE + "ModelInfer").future(iter_until(leave), timeout=PATIENCE_S)
        deployment = served.plane.find("late", None)
        deadline_s = time.monotonic() + PATIENCE_S
        while (
            served.do(deployment.dispatcher_statistics).queue.rows < 2
            or served.do(lambda: len(served.server._receiver._waiting)) < 1
        ):
            assert time.monotonic() < deadline_s
            time.sleep(0.005)
        watched = health_pb2_grpc.HealthStub(opened).Watch(health_pb2.HealthCheckRequest())
        assert next(watched).status == SERVING
        stopping = asyncio.run_coroutine_threadsafe(served.server.stop(PATIENCE_S), served.loop)
        assert next(watched).status == NOT_SERVING
        served.late.gate.set()
        assert numbers(MESSAGES.ModelInferResponse.FromString(taken.result(PATIENCE_S))) == [[2, 4]]
        answer = MESSAGES.ModelStreamInferResponse.FromString(next(streamed))
        assert numbers(answer.infer_response) == [[6, 8]]
        for ended in (streamed, idle):
            with pytest.raises(grpc.RpcError) as caught:
                next(ended)
            assert status_of(caught.value) == ("UNAVAILABLE", "the server is stopping")
        with pytest.raises(StopIteration):
            next(watched)
        leave.set()
        assert numbers(MESSAGES.ModelInferResponse.FromString(pending.result(PATIENCE_S))) == [[6, 8]]
        assert status_of(silent.exception(PATIENCE_S)) == ("UNAVAILABLE", "the server is stopping")
        stopping.result(PATIENCE_S)
        with pytest.raises(grpc.RpcError) as caught:
            infer(opened, infer_request((1, 2)))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def iter_until(leave: threading.Event) -> Iterator[bytes]:
    leave.wait(PATIENCE_S)
    yield from ()


def test_aborting_ends_what_is_left() -> None:
    with serving() as served, channel(served) as opened:
        served.late.gate.clear()
        taken = raw_call(opened).future(infer_request((1, 2)).SerializeToString())
        assert served.late.began.acquire(timeout=PATIENCE_S)
        served.do(served.server.abort)
        assert taken.exception(PATIENCE_S) is not None
        served.late.gate.set()


def test_a_grace_that_passes() -> None:
    with serving() as served, channel(served) as opened:
        served.late.gate.clear()
        taken = raw_call(opened).future(infer_request((1, 2)).SerializeToString())
        assert served.late.began.acquire(timeout=PATIENCE_S)
        served.do(lambda: served.server.stop(0.05))
        assert taken.exception(PATIENCE_S) is not None
        served.late.gate.set()
