"""What the real server believes of whom, over HTTP and gRPC."""

import re
import time
from collections.abc import Iterator

import grpc
import numpy as np
import pytest
from command_line import CommandLine
from grpc_serving import MESSAGES, raw_call
from running_server import RunningServer, running, v2_json

APP = """
import penstock as ps
app = ps.App("trusting")
app.tenant("acme", keys=["acme-0123456789abcdef"])
NUMBER = ps.Signature.of(inputs={"x": "FP32[-1]"}, outputs={"y": "FP32[-1]"})

@app.callable("same", signature=NUMBER, objective=ps.Objective(latency_ms=2000))
def same(inputs):
    return {"y": inputs["x"]}
"""
BODY = v2_json({"x": np.array([1], dtype=np.float32)})
PATH = "/v2/models/same/infer"
PATIENCE = {"x-request-timeout-ms": "10000"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    commands = CommandLine(tmp_path_factory.mktemp("trusting"))
    settings = ("--grpc-port", "0", "--set", "limits.trusted_proxies=127.0.0.0/8")
    settings += ("--set", "admission.critical_plus=acme")
    with running(commands, APP, *settings) as started:
        yield started


@pytest.fixture
def opened(server: RunningServer) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        yield channel


def started(seconds_ago: float) -> str:
    return f"t={time.time() - seconds_ago:.3f}"


@pytest.mark.parametrize(("seconds_ago", "status"), [(1, 200), (15, 504), (55, 504), (500, 200), (-5, 200)])
def test_time_in_a_proxy_counts_as_waited(server: RunningServer, seconds_ago: float, status: int) -> None:
    with server.client() as client:
        for _ in range(3):  # the second time its target is known, the third time its head
            headers = {**PATIENCE, "x-request-start": started(seconds_ago)}
            answer = client.post(PATH, json=BODY, headers=headers)
            assert answer.status_code == status, answer.text
        same_again = {**PATIENCE, "x-request-start": started(seconds_ago)}
        for _ in range(4):
            assert client.post(PATH, json=BODY, headers=same_again).status_code == status


def test_what_makes_no_sense_is_no_error_and_counted(server: RunningServer) -> None:
    with server.client() as client:
        before = ignored(client.get("/metrics").text)
        for value in ("soon", "t=", "-1", "9" * 40):
            assert client.post(PATH, json=BODY, headers={"x-request-start": value}).status_code == 200
        assert ignored(client.get("/metrics").text) == before + 4


def ignored(metrics: str) -> float:
    found = re.search(r"^penstock_request_start_ignored_total (\S+)$", metrics, re.MULTILINE)
    assert found is not None
    return float(found[1])


def message(**parameters: int) -> bytes:
    found = MESSAGES.ModelInferRequest(model_name="same")
    found.inputs.add(name="x", datatype="FP32", shape=[1])
    found.raw_input_contents.append(b"\0" * 4)
    for name, value in parameters.items():
        found.parameters[name].int64_param = value
    content: bytes = found.SerializeToString()
    return content


def test_over_grpc_as_well(opened: grpc.Channel) -> None:
    for seconds_ago in (1, 500):
        said = (("x-request-start", started(seconds_ago)), ("x-request-timeout-ms", "10000"))
        assert raw_call(opened)(message(), timeout=20, metadata=said)
    said = (("x-request-start", started(15)), ("x-request-timeout-ms", "10000"))
    with pytest.raises(grpc.RpcError) as caught:
        raw_call(opened)(message(), timeout=20, metadata=said)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_stream_s_start_is_not_that_of_its_messages(opened: grpc.Channel) -> None:
    said = (("x-request-start", started(15)), ("x-request-timeout-ms", "10000"))
    call = opened.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
    (answer,) = call(iter([message()]), timeout=20, metadata=said)
    assert not MESSAGES.ModelStreamInferResponse.FromString(answer).error_message


ACME = {"x-api-key": "acme-0123456789abcdef"}
MADE_UP = {"x-api-key": "made-up-0123456789abc"}


@pytest.mark.parametrize(
    ("key", "counts_as"), [(ACME, "CRITICAL_PLUS"), (MADE_UP, "CRITICAL"), ({}, "CRITICAL")]
)
@pytest.mark.parametrize("how", ["header", "priority", "metadata", "grpc priority"])
def test_the_highest_class_is_for_those_who_may_name_it(
    server: RunningServer, opened: grpc.Channel, how: str, key: dict[str, str], counts_as: str
) -> None:
    """All are served. What is late by what a proxy says is refused under the class that it counts as."""
    for late in (False, True):
        said = {**key, "x-request-start": started(1.0), "x-request-timeout-ms": "500" if late else "10000"}
        if how in ("header", "metadata"):
            said["x-criticality"] = "CRITICAL_PLUS"
        before = expired(server)
        if how in ("header", "priority"):
            parameters = {"parameters": {"priority": 1}} if how == "priority" else {}
            if late:  # only the body says so, or the head would have been enough to refuse it
                del said["x-request-timeout-ms"]
                parameters = {"parameters": {**parameters.get("parameters", {}), "timeout": 500_000}}
            with server.client() as client:
                status = client.post(PATH, json={**BODY, **parameters}, headers=said).status_code
            assert status == (504 if late else 200)
        else:
            named = {"priority": 1} if how == "grpc priority" else {}
            call = raw_call(opened).future(message(**named), timeout=20, metadata=tuple(said.items()))
            assert call.code() is (grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.OK)
        now = expired(server)
        assert {name: now[name] - before.get(name, 0) for name in now if now[name] != before.get(name)} == (
            {counts_as: 1} if late else {}
        )


def expired(server: RunningServer) -> dict[str, float]:
    """How many were refused for being late, by class."""
    with server.client() as client:
        metrics = client.get("/metrics").text
    lines = re.findall(r"^penstock_shed_total\{(.*)\} (\S+)$", metrics, re.MULTILINE)
    return {
        re.findall(r'criticality="(\w+)"', labels)[0]: float(value)
        for labels, value in lines
        if 'reason="expired"' in labels
    }


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("admission.critical_plus=acmee", "'acmee', which is no tenant of app 'trusting'"),
        ("limits.trusted_proxies=balancer", "'balancer' is neither an address nor a network"),
    ],
)
def test_who_cannot_be_trusted_by_name_keeps_it_from_starting(
    commands: CommandLine, setting: str, said: str
) -> None:
    (commands.folder / "app.py").write_text(APP)
    error = commands.fails("run", "app.py", "--port", "0", "--set", setting)
    assert said in error
    assert "Traceback" not in error
