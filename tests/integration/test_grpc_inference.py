"""The gRPC server as a client sees it: answers, deadlines, hanging up, streams."""

import itertools
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from grpc_serving import (
    MESSAGES,
    PATIENCE_S,
    SERVICE,
    Serving,
    call,
    channel,
    infer,
    infer_request,
    numbers,
    raw_call,
    serving,
    status_of,
)

from penstock.core.errors import Conflict, NotFound
from penstock.serving.protocols.grpc.streaming import STREAM_REQUESTS_MAX


@pytest.fixture(scope="module")
def served() -> Iterator[Serving]:
    with serving() as found:
        yield found


@pytest.fixture
def opened(served: Serving) -> Iterator[grpc.Channel]:
    with channel(served) as found:
        yield found
    served.late.gate.set()


def refusal(opened: grpc.Channel, message: Any, **options: Any) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        infer(opened, message, **options)
    return status_of(caught.value)


def test_infer(served: Serving, opened: grpc.Channel) -> None:
    before = served.answers().get("OK", 0)
    response = infer(opened, infer_request((1, 2), (3, 4), request_id="ä"))
    assert (response.model_name, response.model_version, response.id) == ("late", "1", "ä")
    assert numbers(response) == [[2, 4], [6, 8]]
    assert numbers(response, "sum") == [3, 7]
    assert served.answers()["OK"] == before + 1


def test_texts_and_typed_contents(opened: grpc.Channel) -> None:
    message = MESSAGES.ModelInferRequest(model_name="words", model_version="1")
    message.inputs.add(name="t", datatype="BYTES", shape=[2]).contents.bytes_contents.extend([b"a", b"bc"])
    response = infer(opened, message)
    assert list(response.raw_output_contents) == [b"\x01\0\0\0A\x02\0\0\0BC"]


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed_messages(opened: grpc.Channel, compression: grpc.Compression) -> None:
    rows = [(float(number), 0.0) for number in range(100)]
    assert numbers(infer(opened, infer_request(*rows), compression=compression))[99] == [198, 0]


def test_a_large_message(opened: grpc.Channel) -> None:
    rows = [(float(number), 1.0) for number in range(90)] * 1000
    assert numbers(infer(opened, infer_request(*rows)), "sum")[-1] == 90


@pytest.mark.parametrize(
    ("message", "status", "said"),
    [
        (infer_request((1, 2), model="nothing"), "NOT_FOUND", "no model 'nothing'"),
        (MESSAGES.ModelInferRequest(model_name="late"), "INVALID_ARGUMENT", "missing ['x']"),
        (infer_request((1013, 2)), "INTERNAL", "thirteen; take another number"),
        (infer_request((1014, 2)), "INTERNAL", "the model raised RuntimeError"),
    ],
)
def test_errors(opened: grpc.Channel, message: Any, status: str, said: str) -> None:
    code, text = refusal(opened, message)
    assert (code, said in text, "secret" in text) == (status, True, False), text


def test_what_nobody_foresaw_is_told_to_the_log(
    served: Serving, opened: grpc.Channel, caplog: pytest.LogCaptureFixture
) -> None:
    served.instance.broken = True
    try:
        with pytest.raises(grpc.RpcError) as caught:
            call(opened, "ModelStatistics")
    finally:
        served.instance.broken = False
    code, text = status_of(caught.value)
    assert code == "INTERNAL"
    assert "secret" not in text
    reference = text.rsplit(" ", 1)[-1]
    assert any(reference in record.getMessage() and record.exc_info for record in caplog.records)


def test_a_full_queue_says_when_to_come_back() -> None:
    with serving(queue_rows_max=1) as served, channel(served) as opened:
        served.late.gate.clear()
        running = [raw_call(opened).future(infer_request((1, 1)).SerializeToString())]
        assert served.late.began.acquire(timeout=PATIENCE_S)
        running.append(raw_call(opened).future(infer_request((2, 2)).SerializeToString()))
        deadline_s = time.monotonic() + PATIENCE_S
        deployment = served.plane.find("late", None)
        while served.do(deployment.dispatcher_statistics).queue.rows < 1 and time.monotonic() < deadline_s:
            time.sleep(0.005)
        with pytest.raises(grpc.RpcError) as caught:
            infer(opened, infer_request((3, 3)))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert dict(caught.value.trailing_metadata()) == {"retry-after": "1", "x-shed-reason": "queue_full"}
        served.late.gate.set()
        for each in running:
            each.result(PATIENCE_S)


@pytest.mark.parametrize("how", ["grpc", "parameter", "metadata"])
def test_the_least_deadline_holds(served: Serving, opened: grpc.Channel, how: str) -> None:
    served.late.gate.clear()
    message = infer_request((1, 2))
    options: dict[str, Any] = {}
    if how == "grpc":
        options["timeout"] = 0.1
    elif how == "parameter":
        message.parameters["timeout"].int64_param = 100_000
    else:
        options["metadata"] = (("x-request-timeout-ms", "100"),)
    began_s = time.monotonic()
    code, _ = refusal(opened, message, **options)
    assert code == "DEADLINE_EXCEEDED"
    assert time.monotonic() - began_s < PATIENCE_S / 2


def test_metadata_that_say_no_time(opened: grpc.Channel) -> None:
    code, text = refusal(opened, infer_request((1, 2)), metadata=(("x-request-timeout-ms", "soon"),))
    assert (code, "x-request-timeout-ms is 'soon'" in text) == ("INVALID_ARGUMENT", True)


@pytest.mark.parametrize("how", ["cancel", "close", "deadline", "stream"])
def test_hanging_up_costs_no_model_time(how: str) -> None:
    with serving() as served, channel(served) as other:
        served.late.gate.clear()
        first = raw_call(other).future(infer_request((1, 0)).SerializeToString())
        assert served.late.began.acquire(timeout=PATIENCE_S)
        leaver = grpc.insecure_channel(served.address, options=(("grpc.use_local_subchannel_pool", 1),))
        sent = infer_request((2, 0)).SerializeToString()
        if how == "stream":
            ended = threading.Event()

            def requests() -> Iterator[bytes]:
                yield sent
                ended.wait(PATIENCE_S)

            gone: Any = leaver.stream_stream(SERVICE + "ModelStreamInfer")(requests())
        else:
            gone = raw_call(leaver).future(sent, timeout=0.3 if how == "deadline" else None)
        deployment = served.plane.find("late", None)
        wait_until(lambda: served.do(deployment.dispatcher_statistics).queue.rows == 1)
        if how == "close":
            leaver.close()
        elif how != "deadline":
            gone.cancel()
        wait_until(lambda: served.do(deployment.dispatcher_statistics).queue.rows == 0)
        served.late.gate.set()
        first.result(PATIENCE_S)
        assert numbers(infer(other, infer_request((3, 0)))) == [[6, 0]]
        assert served.late.rows == [1, 3]
        assert served.do(lambda: served.server._receiver.used_bytes) == 0
        leaver.close()
        if how == "stream":
            ended.set()


def wait_until(true: Any) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline_s, "it did not happen"
        time.sleep(0.005)


def stream(opened: grpc.Channel, requests: Iterator[Any], **options: Any) -> Any:
    return opened.stream_stream(
        SERVICE + "ModelStreamInfer",
        request_serializer=lambda each: each if isinstance(each, bytes) else each.SerializeToString(),
        response_deserializer=MESSAGES.ModelStreamInferResponse.FromString,
    )(requests, timeout=PATIENCE_S, **options)


def test_a_stream_goes_on_after_mistakes_and_keeps_the_order(opened: grpc.Channel) -> None:
    requests = [
        infer_request((1, 1), request_id="a"),
        infer_request((1, 1), model="nothing", request_id="b"),
        b"\xff\xff",
        infer_request((1013, 1), request_id="d"),
        infer_request((5, 5), request_id="e"),
    ]
    answers = list(stream(opened, iter(requests)))
    assert [answer.infer_response.id for answer in answers] == ["a", "b", "", "d", "e"]
    said = [answer.error_message for answer in answers]
    assert "no model 'nothing'" in said[1]
    assert "not a ModelInferRequest" in said[2]
    assert "thirteen" in said[3]
    assert (said[0], said[4]) == ("", "")
    assert numbers(answers[4].infer_response) == [[10, 10]]
    for answer in answers:
        assert answer.infer_response.parameters["triton_final_response"].bool_param


def test_a_stream_has_many_requests_in_flight_and_a_bound(served: Serving, opened: grpc.Channel) -> None:
    served.late.gate.clear()
    sent = 0

    def requests() -> Iterator[Any]:
        nonlocal sent
        for sent in range(1, 3 * STREAM_REQUESTS_MAX + 1):
            yield infer_request((float(sent), 0), request_id=str(sent))

    answers = stream(opened, requests())
    deployment = served.plane.find("late", None)

    def taken() -> int:
        queue = served.do(deployment.dispatcher_statistics).queue.rows
        return int(queue) + len(served.do(lambda: deployment._dispatcher.batcher.running))

    wait_until(lambda: taken() == STREAM_REQUESTS_MAX)
    time.sleep(0.1)  # no more is taken on, however long one waits
    assert taken() == STREAM_REQUESTS_MAX
    served.late.gate.set()
    found = list(answers)
    assert [answer.infer_response.id for answer in found] == [str(1 + each) for each in range(sent)]
    assert all(
        numbers(answer.infer_response) == [[2.0 * number, 0]]
        for number, answer in zip(itertools.count(1), found, strict=False)
    )


def test_a_stream_without_requests_ends(opened: grpc.Channel) -> None:
    assert list(stream(opened, iter(()))) == []


def test_metadata_and_configuration(opened: grpc.Channel) -> None:
    assert call(opened, "ServerLive").live
    assert call(opened, "ServerReady").ready
    assert call(opened, "ModelReady", name="late").ready
    assert call(opened, "ModelReady", name="late", version="1").ready
    assert not call(opened, "ModelReady", name="late", version="7").ready
    server = call(opened, "ServerMetadata")
    assert (server.name, server.version) == ("penstock", "9")
    assert "model_repository" in server.extensions
    model = call(opened, "ModelMetadata", name="late")
    assert (model.name, list(model.versions), model.platform) == ("late", ["1"], "test")
    assert [(each.name, each.datatype, list(each.shape)) for each in model.inputs] == [("x", "FP32", [-1, 2])]
    config = call(opened, "ModelConfig", name="late").config
    assert (config.max_batch_size, config.WhichOneof("scheduling_choice")) == (100, "dynamic_batching")
    assert (config.input[0].name, config.input[0].data_type, list(config.input[0].dims)) == ("x", 11, [2])
    assert (list(config.output[1].dims), config.output[1].HasField("reshape")) == ([1], True)
    assert call(opened, "ModelConfig", name="words").config.output[0].data_type == 13
    with pytest.raises(grpc.RpcError) as caught:
        call(opened, "ModelMetadata", name="nothing")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_statistics(opened: grpc.Channel) -> None:
    (before,) = call(opened, "ModelStatistics", name="late").model_stats
    infer(opened, infer_request((1, 2), (3, 4)))
    (after,) = call(opened, "ModelStatistics", name="late", version="1").model_stats
    assert after.inference_count == before.inference_count + 2
    assert after.execution_count == before.execution_count + 1
    assert after.inference_stats.success.count == before.inference_stats.success.count + 1
    assert after.inference_stats.success.ns > before.inference_stats.success.ns
    assert after.last_inference > 1.7e12
    assert 2 in [each.batch_size for each in after.batch_stats]
    assert {each.name for each in call(opened, "ModelStatistics").model_stats} == {"late", "words"}


def test_repository(served: Serving, opened: grpc.Channel) -> None:
    models = call(opened, "RepositoryIndex").models
    assert [(each.name, each.version, each.state, each.reason) for each in models] == [
        ("late", "1", "READY", ""),
        ("late", "0", "UNAVAILABLE", "not wanted"),
    ]
    assert len(call(opened, "RepositoryIndex", ready=True).models) == 1
    served.instance.asked.clear()
    call(opened, "RepositoryModelLoad", model_name="late")
    version = {"version": MESSAGES.ModelRepositoryParameter(string_param="2")}
    call(opened, "RepositoryModelLoad", model_name="late", parameters=version)
    with pytest.raises(grpc.RpcError) as caught:
        call(opened, "RepositoryModelUnload", model_name="late", parameters=version)
    assert status_of(caught.value)[0] == "PERMISSION_DENIED"
    assert served.instance.asked == [("load", "late", None), ("load", "late", "2"), ("unload", "late", "2")]
    config = {"config": MESSAGES.ModelRepositoryParameter(string_param="{}")}
    for fields in ({"parameters": config}, {"repository_name": "other"}):
        with pytest.raises(grpc.RpcError) as caught:
            call(opened, "RepositoryModelLoad", model_name="late", **fields)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    unknown = {"depth": MESSAGES.ModelRepositoryParameter(int64_param=3)}
    with pytest.raises(grpc.RpcError) as caught:
        call(opened, "RepositoryModelLoad", model_name="late", parameters=unknown)
    code, text = status_of(caught.value)[:2]
    assert (code, "unknown parameter 'depth'" in text) == ("INVALID_ARGUMENT", True)


@pytest.mark.parametrize(
    ("error", "status"), [(Conflict("it is being loaded"), "ABORTED"), (NotFound("no such"), "NOT_FOUND")]
)
def test_what_loading_raises(
    served: Serving, opened: grpc.Channel, error: Exception, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def load(model: str, version: str | None) -> None:
        raise error

    monkeypatch.setattr(served.instance, "load", load)
    with pytest.raises(grpc.RpcError) as caught:
        call(opened, "RepositoryModelLoad", model_name="late")
    assert status_of(caught.value) == (status, str(error))
