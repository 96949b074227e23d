"""Kept answers over real sockets: one run for all who ask the same, whatever protocol form they ask in."""

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest
from command_line import CommandLine
from plane_server import PATIENCE_S, FunctionRuntime, PlaneServer, plane_server
from running_server import outputs, running, v2_json

from penstock.serving.cache.prediction_cache import CacheConfig

APP = """
import os, penstock as ps
import numpy as np

app = ps.App("kept", objective=ps.Objective(latency_ms=60_000))
calls = []

@app.callable(
    "count",
    signature=ps.Signature.of(inputs={"x": "FP32[-1]"}, outputs={"calls": "INT64[-1]"}),
    cache=ps.Cache(ttl="1h", stale="1d"),
)
def count(inputs):
    calls.append(1)
    return {"calls": np.full(len(inputs["x"]), len(calls))}
"""


def body(*values: float, **further: Any) -> dict[str, Any]:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 3], "data": list(values)}
    return {"inputs": [tensor], **further}


@pytest.fixture
def server() -> Iterator[PlaneServer]:
    with plane_server() as running:
        running.add("sum", cache=CacheConfig(ttl_s=PATIENCE_S))
        yield running


def runtime(server: PlaneServer) -> FunctionRuntime:
    return server.runtimes["sum", "1"]


def ask(client: httpx.Client, *values: float, headers: Any = None, **further: Any) -> httpx.Response:
    return client.post("/v2/models/sum/infer", json=body(*values, **further), headers=headers)


def test_who_asks_the_same_gets_the_same(server: PlaneServer) -> None:
    with server.client() as client:
        first, second = ask(client, 1, 2, 3, id="a"), ask(client, 1, 2, 3, id="b")
        assert (first.json()["id"], second.json()["id"]) == ("a", "b"), "an answer is its caller's own"
        assert first.json()["outputs"] == second.json()["outputs"]
        assert second.json()["outputs"][0]["data"] == [6]
        binary = ask(client, 1, 2, 3, outputs=[{"name": "y", "parameters": {"binary_data": True}}])
        assert np.frombuffer(binary.content[-4:], "<f4").tolist() == [6]
        assert runtime(server).rows == [1]
        assert ask(client, 1, 2, 4).json()["outputs"][0]["data"] == [7]
        assert runtime(server).rows == [1, 1]


def test_those_who_ask_the_same_at_once_share_a_run(server: PlaneServer) -> None:
    runtime(server).gate.clear()
    with server.client() as client, ThreadPoolExecutor(8) as threads:
        asked: list[Future[httpx.Response]] = [threads.submit(ask, client, 1, 2, 3) for _ in range(8)]
        cached = server.plane.find("sum", None)
        until_s = time.monotonic() + PATIENCE_S
        while (counted := cached.cache_statistics()) and counted.joined < 7 and time.monotonic() < until_s:
            time.sleep(0.01)
        with pytest.raises(httpx.ReadTimeout):
            server.client().post("/v2/models/sum/infer", json=body(1, 2, 3), timeout=0.2)
        late = ask(client, 1, 2, 3, headers={"x-request-timeout-ms": "50"})
        assert late.status_code == 504
        runtime(server).gate.set()
        assert [each.result().json()["outputs"][0]["data"] for each in asked] == [[6]] * 8
    assert runtime(server).rows == [1]


def test_a_hit_is_given_where_a_miss_is_too_late(server: PlaneServer) -> None:
    with server.client() as client, ThreadPoolExecutor(1) as threads:
        assert ask(client, 1, 2, 3).status_code == 200
        for number in range(20):
            ask(client, 1, 2, 10 + number)
        runtime(server).gate.clear()
        stuck = threads.submit(ask, client, 7, 7, 7)
        until_s = time.monotonic() + PATIENCE_S
        while server.plane.find("sum", None).dispatcher_statistics().running is False:
            assert time.monotonic() < until_s
        hasty = {"x-request-timeout-ms": "500"}
        assert ask(client, 1, 2, 3, headers=hasty).json()["outputs"][0]["data"] == [6]
        assert ask(client, 1, 2, 4, headers=hasty).status_code in (503, 504)
        runtime(server).gate.set()
        assert stuck.result().status_code == 200


def test_another_version_answers_for_itself(server: PlaneServer) -> None:
    with server.client() as client:
        assert ask(client, 1, 2, 3).json()["outputs"][0]["data"] == [6]
        second = server.add("sum", "2", cache=CacheConfig(ttl_s=PATIENCE_S))
        second.behave = lambda tensors: {"y": np.zeros(len(tensors["x"]), np.float32)}

        async def route() -> None:
            server.plane.route("sum", "2")

        server.call(route())
        assert ask(client, 1, 2, 3).json()["outputs"][0]["data"] == [0]


def test_errors_are_not_kept(server: PlaneServer) -> None:
    server.add("picky", cache=CacheConfig(ttl_s=PATIENCE_S))
    tensor = {"name": "x", "datatype": "INT64", "shape": [1], "data": [-1]}
    with server.client() as client:
        for _ in range(2):
            answer = client.post("/v2/models/picky/infer", json={"inputs": [tensor]})
            assert answer.status_code == 500
    assert server.plane.find("picky", None).cache_statistics().misses == 2  # type: ignore[union-attr]


def test_an_app_s_answers_are_kept(commands: CommandLine) -> None:
    with running(commands, APP) as server, server.client() as client:
        first, again, other = (
            outputs(client.post("/v2/models/count/infer", json=v2_json({"x": np.array([value], np.float32)})))
            for value in (1.0, 1.0, 2.0)
        )
        assert [each["calls"].tolist() for each in (first, again, other)] == [[1], [1], [2]]
        metrics = client.get("/metrics").text
        assert 'penstock_cache_requests_total{model="count",result="hit"' in metrics
        assert "penstock_cache_entries 2" in metrics


def test_a_time_that_is_none_is_said_at_once(commands: CommandLine) -> None:
    with (
        pytest.raises(AssertionError, match="ttl of a cache is 'soon', not a time"),
        running(commands, APP.replace("1h", "soon")),
    ):
        pass
