"""The same events scored in the stream and by request, of a model that has no place for some of their features:
its inputs are the same bit for bit on both sides, and what became a default is counted on both.
"""

import json
import re
from pathlib import Path

import numpy as np
import polars as pl
from command_line import CommandLine
from running_server import outputs, running, v2_json, wait_for

from penstock.core.clock import SystemClock
from penstock.log.opening import open_log
from penstock.log.port import Log
from penstock.log.records import Records, TopicPartition

APP = """
import numpy as np
import penstock as ps
import polars as pl
from penstock import Signature

app = ps.App("parity", objective=ps.Objective(latency_ms=60_000))
events = app.stream(
    "events", schema={"number": pl.Int64, "place": pl.String, "value": pl.Float64, "at": pl.Int64},
    time="at", lateness="1m", idle=None,
)
load = app.features(
    "load",
    events.window(key="place", over="1h", every="5m").agg(
        n=ps.count(), total=ps.sum("value"), mean=ps.mean("value"), worst=ps.max("value"),
    ),
    (pl.col("worst") > 10).alias("high"),
    defaults={"n": -3, "total": -1.5, "mean": 0.1, "worst": -2.0},
)
SIGNATURE = Signature.of(
    inputs={"n": "INT8[-1]", "total": "FP32[-1]",
            "mean": "FP16[-1, 1]", "worst": "FP64?[-1]", "high": "FP32[-1]"},
    outputs={"seen": "FP64?[-1, 5]"},
)

@app.callable("seeing", signature=SIGNATURE, features=[load], feature_time="at")
def seeing(inputs):
    columns = [inputs[name].ravel() for name in ("n", "total", "mean", "worst", "high")]
    return {"seen": np.stack([each.astype(np.float64) for each in columns], axis=1)}

events.enrich(load).score("seeing", outputs={"seen": pl.Array(pl.Float64, 5)}, into="predictions")
"""
AT_MS = 1_700_000_000_000
PLACES = ("quiet", "busy", "huge")
ROUNDS = 3


def make_events() -> pl.DataFrame:
    """Of one place there are more than INT8 counts, of another the sums are beyond FP32 and FP16."""
    rng = np.random.default_rng(3)
    places = rng.choice(PLACES, 450, p=[0.05, 0.75, 0.2])
    values = np.where(places == "huge", rng.choice([1e5, 1e39], 450, p=[0.8, 0.2]), rng.normal(5, 9, 450))
    at = AT_MS + np.sort(rng.integers(0, 50 * 60_000, 450))
    return pl.DataFrame({"number": np.arange(450), "place": places, "value": values, "at": at})


def produce(log: Log, events: pl.DataFrame) -> None:
    producer = log.producer()
    values = [json.dumps(row).encode() for row in events.iter_rows(named=True)]
    times = np.zeros(len(values), np.int64)
    producer.append(TopicPartition("events", 0), Records(values=values, times_ms=times)).result()
    producer.close()


def predictions(log: Log) -> list[dict[str, object]]:
    if "predictions" not in {info.spec.name for info in log.admin.topics()}:
        return []
    fetched = log.admin.read(TopicPartition("predictions", 0), 0, records_max=10_000)
    return [json.loads(value) for value in fetched.records.values]


def kept(log: Log) -> bool:
    """Whether all that was produced has come to where requests read."""
    ends = {info.spec.name: info.ends[0] for info in log.admin.topics()}
    committed = {lag.source.topic: lag.committed or 0 for lag in log.admin.lags("parity")}
    return all(
        committed.get(topic, 0) >= ends.get(topic, 1) - 1 for topic in ("events", "parity.load.features")
    )


def bits(rows: object) -> list[bytes]:
    return [np.array(row, np.float64).tobytes() for row in rows]  # type: ignore[attr-defined]


def misfits(text: str) -> dict[str, int]:
    found = re.findall(r'defaults_total\{feature="(\w+)",reason="misfit",view="load"\} (\d+)', text)
    return {name: int(count) for name, count in found if int(count)}


def expected_misfits(events: pl.DataFrame) -> pl.DataFrame:
    """By event, whether its inputs can hold what the window has: by Polars and NumPy alone."""
    step = pl.col("at") // 300_000
    pairs = events.select("number", "place", now="at").join(events, on="place", suffix="_of")
    now = pl.col("now") // 300_000
    within = pairs.filter(pl.col("number_of") <= pl.col("number"), step <= now, step > now - 12)
    read = within.group_by("number").agg(n=pl.len(), total=pl.col("value").sum(), mean=pl.col("value").mean())
    with np.errstate(over="ignore"):
        half = read["mean"].to_numpy().astype(np.float16)
        single = read["total"].to_numpy().astype(np.float32)
    return read.select("number", pl.col("n") > 127, total=np.isinf(single), mean=np.isinf(half))


def counts(flags: pl.DataFrame) -> dict[str, int]:
    return {name: int(flags[name].sum()) for name in ("n", "total", "mean")}


def test_stream_and_request_give_the_model_the_same_to_the_bit(tmp_path: Path) -> None:
    line = CommandLine(tmp_path)
    events = make_events()
    asked: list[int] = []
    answered: list[bytes] = []
    with open_log("", tmp_path / ".penstock", SystemClock()) as log, running(line, APP) as server:
        wait_for(lambda: "events" in {info.spec.name for info in log.admin.topics()}, server)
        with server.client() as client:
            for part in np.array_split(np.arange(events.height), ROUNDS):
                produce(log, events[part.tolist()])
                until = int(part[-1]) + 1
                wait_for(lambda: len(predictions(log)) == until and kept(log), server)  # noqa: B023
                last = events[:until].group_by("place").agg(pl.col("number", "at").last()).sort("number")
                body = {"place": last["place"].to_numpy().astype(object), "at": last["at"].to_numpy()}
                answer = client.post("/v2/models/seeing/infer", json=v2_json(body))
                asked += last["number"].to_list()
                answered += bits(outputs(answer)["seen"])
            scored = {row["number"]: row["seen"] for row in predictions(log)}
            flags = expected_misfits(events)
            streamed, requested = counts(flags), counts(flags.filter(pl.col("number").is_in(asked)))
            counted = {name: streamed[name] + requested[name] for name in streamed}
            total = sum(counted.values())
            wait_for(lambda: sum(misfits(client.get("/metrics").text).values()) >= total, server)
            assert misfits(client.get("/metrics").text) == counted
        dead = {info.spec.name: info.ends for info in log.admin.topics()}["events.dead"]
        assert dead == (0,), "a value that does not fit is no dead letter"
    assert sorted(scored) == list(range(events.height))
    assert bits(scored[number] for number in asked) == answered
    assert min(requested.values()) > 0
