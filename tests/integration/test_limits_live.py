"""Rate limits on a real server of two workers, over HTTP and gRPC, changed while it runs."""

import re
import time
from collections import Counter

import grpc
import httpx
import pytest
from command_line import CommandLine
from grpc_serving import MESSAGES, raw_call
from running_server import RunningServer, running

APP = """
import penstock as ps
app = ps.App("limited", objective=ps.Objective(latency_ms=60_000))
NUMBER = ps.Signature.of(inputs={"x": "FP32[-1]"}, outputs={"y": "FP32[-1]"})

@app.callable("same", signature=NUMBER)
def same(inputs):
    return {"y": inputs["x"]}

app.tenant("acme", keys=["acme-0123456789abcdef"])
app.limit(ps.RateLimit(per_second=0.001, burst=7))
app.limit(ps.RateLimit(per_second=0.1, burst=40, unit="rows"), tenant="acme")
"""
ACME = {"x-api-key": "acme-0123456789abcdef"}


def ask(server: RunningServer, rows: int = 1, headers: dict[str, str] | None = None) -> httpx.Response:
    """On a connection of its own, so that either worker may have it."""
    body = {"inputs": [{"name": "x", "shape": [rows], "datatype": "FP32", "data": [1.0] * rows}]}
    with server.client() as client:
        return client.post("/v2/models/same/infer", json=body, headers=headers)


def wait_until_it_passes(server: RunningServer) -> float:
    began_s = time.monotonic()
    while ask(server).status_code != 200:
        assert time.monotonic() - began_s < 20, "the limit that was set does not hold"
        time.sleep(0.05)
    return time.monotonic() - began_s


def test_limits_hold_over_all_workers_and_change_while_they_run(commands: CommandLine) -> None:
    with running(commands, APP, "--workers", "2", "--grpc-port", "0") as server:
        answers = [ask(server) for _ in range(20)]
        assert Counter(answer.status_code for answer in answers) == {200: 7, 429: 13}
        refused = answers[-1]
        assert refused.headers["x-shed-reason"] == "quota"
        assert 900 <= int(refused.headers["retry-after"]) <= 1003
        made_up = ask(server, headers={"x-api-key": "made-up-0123456789"})
        assert made_up.status_code == 429

        assert ask(server, 30, ACME).status_code == 200
        assert ask(server, 30, ACME).status_code == 429
        assert ask(server, 41, ACME).status_code == 413

        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
            check_that_it_is_refused(channel)

        metrics = httpx.get(f"{server.url}/metrics", trust_env=False).text
        assert 'penstock_quota_refused_total{model="same",tenant="acme"} 2' in metrics
        assert "127.0.0.1" not in metrics
        assert "acme-0123" not in metrics + server.log

        commands.succeeds("limits", "set", "1000", "--burst", "500", "--model", "same")
        wait_until_it_passes(server)
        commands.fails("limits", "set", "nan")
        check_what_is_shown_and_doubted(commands)
        commands.succeeds("limits", "remove", "--model", "same")
        assert "acme-0123" not in server.log


def check_that_it_is_refused(channel: grpc.Channel) -> None:
    message = MESSAGES.ModelInferRequest(model_name="same")
    message.inputs.add(name="x", datatype="FP32", shape=[1])
    message.raw_input_contents.append(b"\0" * 4)
    with pytest.raises(grpc.RpcError) as caught:
        raw_call(channel)(message.SerializeToString(), timeout=20)
    error = caught.value
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    trailers = dict(error.trailing_metadata())
    assert trailers["x-shed-reason"] == "quota"
    assert int(trailers["retry-after"]) > 60


def check_what_is_shown_and_doubted(commands: CommandLine) -> None:
    """The commands know the app of the server that runs, without being told."""
    shown = commands.run("limits", "show")
    assert (shown.status, shown.stderr) == (0, "")
    cells = [re.split(r"  +", line.strip()) for line in shown.stdout.splitlines()]
    file = str(commands.folder / "app.py")
    assert cells[1:] == [
        ["any", "any", "0.001", "7", "requests", file, "yes"],
        ["any", "same", "1000", "500", "requests", "set", "yes"],
        ["acme", "any", "0.1", "40", "rows", file, "yes"],
    ]
    said = commands.fails("limits", "set", "5", "--model", "sane")
    assert f"neither the registry nor {file} has a model 'sane'" in said
    assert "did you mean 'same'?" in said
    mistaken = commands.run("limits", "set", "5", "--tenant", "acne")
    assert mistaken.status == 0
    assert f"warning: {file} has no tenant 'acne'" in mistaken.stderr
    assert "did you mean 'acme'?" in mistaken.stderr
    commands.succeeds("limits", "remove", "--tenant", "acne")
    assert "warning" not in commands.run("limits", "set", "5", "--tenant", "acme", "--model", "same").stderr
    commands.succeeds("limits", "remove", "--tenant", "acme", "--model", "same")
