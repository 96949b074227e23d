"""Streams scored by models of the registry and of the app file, in the real stream worker."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from command_line import CommandLine
from moving_models import push_adding
from onnx import TensorProto, helper, numpy_helper
from running_server import RunningServer, running, wait_for

from penstock.core.clock import SystemClock
from penstock.features.embedded import EmbeddedOnlineStore
from penstock.log.opening import open_log
from penstock.log.port import Log
from penstock.log.records import Records, TopicPartition

APP = """
import penstock as ps
import polars as pl

app = ps.App("scoring")
schema = {"a": pl.Float64, "b": pl.Float64, "c": pl.Float64, "d": pl.Float64, "at": pl.Int64}
events = app.stream("events", schema=schema, time="at", lateness="1d")
adding = app.model("adding")
events.score(adding, outputs={"y": pl.Float64}, inputs={"x": ["a", "b", "c", "d"]}, into="predictions")
"""
CRASHING = """
import os
import penstock as ps
import polars as pl

app = ps.App("scoring")
schema = {"a": pl.Float64, "at": pl.Int64}
events = app.stream("events", schema=schema, time="at", lateness="1d")


@app.callable(
    "doubling",
    signature=ps.Signature.of(inputs={"a": "FP64[-1]"}, outputs={"y": "FP64[-1]"}),
    fallback=FALLBACK,
)
def doubling(inputs):
    if (inputs["a"] == 13).any():
        raise ValueError("thirteen")
    if (inputs["a"] == 66).any() and not os.path.exists("mended"):
        os._exit(3)
    return {"y": inputs["a"] * 2}


events.score("doubling", outputs={"y": pl.Float64}, into="predictions")
"""


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    with open_log("", tmp_path / ".penstock", SystemClock()) as opened:
        yield opened


@contextmanager
def scoring(line: CommandLine, log: Log, app: str, *options: str) -> Iterator[RunningServer]:
    """A server whose streams have begun."""
    with running(line, app, *options) as server:
        wait_for(lambda: "events" in {info.spec.name for info in log.admin.topics()}, server)
        yield server


def produce(log: Log, events: list[dict[str, Any]], topic: str = "events") -> None:
    values = [json.dumps({"at": 1_700_000_000_000, **event}).encode() for event in events]
    producer = log.producer()
    records = Records(values=values, times_ms=np.zeros(len(values), dtype=np.int64))
    producer.append(TopicPartition(topic, 0), records).result()
    producer.close()


def rows(log: Log, topic: str) -> list[dict[str, Any]]:
    if topic not in {info.spec.name for info in log.admin.topics()}:
        return []
    fetched = log.admin.read(TopicPartition(topic, 0), 0, records_max=100_000)
    return [json.loads(value) for value in fetched.records.values]


def dead(log: Log) -> list[str]:
    if "events.dead" not in {info.spec.name for info in log.admin.topics()}:
        return []
    fetched = log.admin.read(TopicPartition("events.dead", 0), 0, records_max=1000)
    return [json.loads(value)["a"] for value in fetched.records.values]


def numbers(begin: int, end: int) -> list[dict[str, Any]]:
    return [{"a": float(n), "b": 0.5, "c": 0.25, "d": 0.25} for n in range(begin, end)]


def versions(log: Log) -> set[str]:
    return {row["model_version"] for row in rows(log, "predictions")}


def stream_worker(line: CommandLine) -> int:
    (instance,) = json.loads(line.inside("status", "--json").stdout)
    (pid,) = (worker["pid"] for worker in instance["workers"] if worker["role"] == "stream worker")
    return int(pid)


def check_each_scored_once(log: Log, count: int) -> None:
    """By the version that it names, whatever happened meanwhile."""
    found = rows(log, "predictions")
    assert [row["a"] for row in found] == list(range(count))
    assert [row["prediction_id"] for row in found] == [f"adding/events/0/{n}" for n in range(count)]
    for row in found:
        assert row["y"] == pytest.approx(row["a"] + 1 + 100 * int(row["model_version"]), rel=1e-5)
        assert row["model_rung"] is None


def test_versions_are_swapped_amid_a_stream_and_a_kill_doubles_nothing(tmp_path: Path, log: Log) -> None:
    line = CommandLine(tmp_path)
    push_adding(line, 2)
    with scoring(line, log, APP) as server:
        wait_for(lambda: "adding  version 1  on onnxruntime, scores streams" in server.log, server)
        produce(log, numbers(0, 500))
        wait_for(lambda: len(rows(log, "predictions")) == 500, server)
        line.succeeds_inside("model", "alias", "adding", "champion", "2")
        done = 500
        while "2" not in versions(log):
            produce(log, numbers(done, done + 10))
            done += 10
            wait_for(lambda: len(rows(log, "predictions")) == done, server)  # noqa: B023 - called in this turn
        os.kill(stream_worker(line), signal.SIGKILL)
        produce(log, numbers(done, done + 500))
        wait_for(lambda: len(rows(log, "predictions")) == done + 500, server)
        assert server.end() == 0
    assert versions(log) == {"1", "2"}
    check_each_scored_once(log, done + 500)


def test_a_model_that_breaks_on_a_row_loses_that_row_alone(tmp_path: Path, log: Log) -> None:
    line = CommandLine(tmp_path)
    with scoring(line, log, CRASHING.replace("FALLBACK", "()")) as server:
        produce(log, [{"a": float(n)} for n in range(40)] + [{"a": None}])
        wait_for(lambda: len(rows(log, "predictions")) == 39 and len(dead(log)) == 2, server)
    assert [row["a"] for row in rows(log, "predictions")] == [n for n in range(40) if n != 13]
    assert dead(log) == [13, None]


def test_rows_wait_for_a_model_that_is_down(tmp_path: Path, log: Log) -> None:
    line = CommandLine(tmp_path)
    with scoring(line, log, CRASHING.replace("FALLBACK", "()")) as server:
        produce(log, [{"a": 1.0}])
        wait_for(lambda: len(rows(log, "predictions")) == 1, server)
        produce(log, [{"a": 66.0}, {"a": 2.0}])
        wait_for(lambda: "events/0 waits, the others go on: model 'doubling'" in server.log, server)
        assert dead(log) == []
        (tmp_path / "mended").touch()
        wait_for(lambda: len(rows(log, "predictions")) == 3, server)
    assert [row["y"] for row in rows(log, "predictions")] == [2, 132, 4]


def test_what_was_never_answered_waits_over_a_restart(tmp_path: Path, log: Log) -> None:
    line = CommandLine(tmp_path)
    app = CRASHING.replace("FALLBACK", "()")
    with scoring(line, log, app) as server:
        produce(log, [{"a": 66.0}])
        wait_for(lambda: "waits, the others go on" in server.log, server)
    with scoring(line, log, app) as server:
        wait_for(lambda: "waits, the others go on" in server.log, server)
        assert dead(log) == []
        (tmp_path / "mended").touch()
        wait_for(lambda: len(rows(log, "predictions")) == 1, server)
    assert dead(log) == []


SLOW = """
import time
import penstock as ps
import polars as pl

app = ps.App("scoring")
schema = {"a": pl.Float64, "at": pl.Int64}
events = app.stream("events", schema=schema, time="at", lateness="1d")
others = app.stream("others", schema=schema, time="at", lateness="1d")


@app.callable("slow", signature=ps.Signature.of(inputs={"a": "FP64[-1]"}, outputs={"y": "FP64[-1]"}))
def slow(inputs):
    for a in inputs["a"]:
        time.sleep(5 if a == 13 else 0.03)
    return {"y": inputs["a"] * 2}


events.score("slow", outputs={"y": pl.Float64}, into="predictions")
others.into("copied")
"""


@pytest.mark.alone
def test_a_model_that_is_slow_gets_through_and_a_row_that_hangs_it_does_not_block(
    tmp_path: Path, log: Log
) -> None:
    line = CommandLine(tmp_path)
    with scoring(line, log, SLOW, "--set", "stream.function_timeout_s=4") as server:
        produce(log, [{"a": 100.0 + n} for n in range(150)] + [{"a": 13.0}, {"a": 1.0}])
        produce(log, [{"a": float(n)} for n in range(10)], "others")
        wait_for(lambda: len(rows(log, "copied")) == 10, server)
        wait_for(lambda: len(rows(log, "predictions")) == 151 and dead(log) == [13], server)
    assert [row["a"] for row in rows(log, "predictions")] == [*(100 + n for n in range(150)), 1]


def test_what_stands_in_for_the_model_is_named(tmp_path: Path, log: Log) -> None:
    line = CommandLine(tmp_path)
    with scoring(line, log, CRASHING.replace("FALLBACK", "[ps.constant(y=0.5)]")) as server:
        produce(log, [{"a": 66.0}])
        wait_for(lambda: len(rows(log, "predictions")) == 1, server)
    (row,) = rows(log, "predictions")
    assert (row["y"], row["model_rung"]) == (0.5, "constant")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ('inputs={"x": ["a", "b", "c", "e"]}', "the stream has no column 'e'"),
        ('inputs={"w": "a"}', "it has no input 'w'"),
        ('inputs={"x": ["a", "b", "c", "text"]}', "column 'text' is of String"),
    ],
)
def test_what_does_not_fit_the_model_is_told_when_it_is_loaded(tmp_path: Path, change: str, said: str) -> None:
    line = CommandLine(tmp_path)
    push_adding(line, 1)
    app = APP.replace('inputs={"x": ["a", "b", "c", "d"]}', change).replace('"at":', '"text": pl.String, "at":')
    with running(line, app) as server:
        wait_for(lambda: said in server.log, server)


def test_a_model_that_is_not_declared_is_told(tmp_path: Path) -> None:
    line = CommandLine(tmp_path)
    (tmp_path / "app.py").write_text(APP.replace('adding = app.model("adding")', 'adding = "adding"'))

    done = line.run("run", "app.py", "--port", "0")

    assert done.status != 0
    assert "scores a stream by 'adding', which it does not declare" in done.stderr


def test_a_version_that_does_not_fit_leaves_the_one_before_at_work(tmp_path: Path, log: Log) -> None:
    line = CommandLine(tmp_path)
    push_adding(line, 1)
    with scoring(line, log, APP) as server:
        produce(log, numbers(0, 10))
        wait_for(lambda: len(rows(log, "predictions")) == 10, server)
        push_other(line)
        wait_for(lambda: "is not served" in server.log, server)
        produce(log, numbers(10, 20))
        wait_for(lambda: len(rows(log, "predictions")) == 20, server)
    check_each_scored_once(log, 20)


def push_other(line: CommandLine) -> None:
    """A version with an input that the stream does not have, as the champion."""
    graph = helper.make_graph(
        [helper.make_node("Identity", ["other"], ["y"])],
        "other",
        [helper.make_tensor_value_info("other", TensorProto.FLOAT, [None])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None])],
    )
    push_graph(line, "adding", graph)


def push_graph(line: CommandLine, model: str, graph: onnx.GraphProto) -> None:
    file = line.folder / f"{graph.name}.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), file)
    line.succeeds_inside("model", "push", model, file, "--alias", "champion")


FEATURES = """
import penstock as ps
import polars as pl

app = ps.App("scoring")
events = app.stream(
    "events", schema={"a": pl.Float64, "place": pl.String, "at": pl.Int64}, time="at", lateness="1h"
)
weather = app.stream("weather", schema={"place": pl.String, "temp": pl.Float64, "at": pl.Int64}, time="at")
counts = app.features("counts", events.window(key="place", over="1h", every="10m").agg(n=ps.count()))
conditions = app.features(
    "conditions", weather.latest(key="place", ttl="3h", columns=["temp"]), defaults={"temp": -1000.0}
)
combining = app.model("combining", features=[counts, conditions])
events.score(combining, outputs={"y": pl.Float64}, into="predictions")
"""


def push_combining(line: CommandLine) -> None:
    """A model of a request's number and of two features: a + 1000 n + temp."""
    names = ("a", "n", "temp")
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["n", "thousand"], ["thousands"]),
            helper.make_node("Add", ["a", "thousands"], ["both"]),
            helper.make_node("Add", ["both", "temp"], ["y"]),
        ],
        "combining",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None]) for name in names],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None])],
        [numpy_helper.from_array(np.array([1000], np.float32), "thousand")],
    )
    push_graph(line, "combining", graph)


def test_features_are_those_of_the_event_and_what_is_known_by_then(tmp_path: Path, log: Log) -> None:
    line = CommandLine(tmp_path)
    push_combining(line)
    at = 1_700_000_000_000
    with scoring(line, log, FEATURES) as server:
        produce(log, [{"a": 0.0, "place": "EWR", "at": at}])
        wait_for(lambda: len(rows(log, "predictions")) == 1, server)
        produce(log, [{"place": "EWR", "temp": 50.0, "at": at}], "weather")
        store = EmbeddedOnlineStore(tmp_path / ".penstock")
        wait_for(lambda: {view.name: store.size(view) for view in store.views()}.get("conditions") == 1, server)
        places = ["EWR", "JFK", "EWR"]
        produce(log, [{"a": float(n), "place": place, "at": at + n} for n, place in enumerate(places)])
        late = {"a": 5.0, "place": "EWR", "at": at + 5 * 3_600_000}
        produce(log, [late])
        wait_for(lambda: len(rows(log, "predictions")) == 5, server)
        assert server.end() == 0
    found = [(row["place"], row["n"], row["temp"], row["y"]) for row in rows(log, "predictions")]
    assert found == [
        ("EWR", 1, -1000.0, 0.0),
        ("EWR", 2, 50.0, 2050.0),
        ("JFK", 1, -1000.0, 1.0),
        ("EWR", 3, 50.0, 3052.0),
        ("EWR", 1, -1000.0, 5.0),  # the weather of five hours ago is none
    ]
