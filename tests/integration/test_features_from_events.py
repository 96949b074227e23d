"""From events to predictions, by a real server: what is served is what Polars finds in all events as of then,
and is found again in the history bit for bit, with late events and a killed worker in between.
"""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import msgspec
import numpy as np
import polars as pl
from command_line import CommandLine
from running_server import RunningServer, outputs, running, v2_json
from test_feature_serving import served

from penstock.app.loading import load_app
from penstock.core.clock import SystemClock
from penstock.features.history import Asked, as_served
from penstock.log.embedded import EmbeddedLog
from penstock.log.partitioning import split_by_partition
from penstock.log.records import Records, TopicPartition

APP = """
import numpy as np
import penstock as ps
import polars as pl
from penstock import Signature

app = ps.App("tests", objective=ps.Objective(latency_ms=60_000))
departures = app.stream(
    "departures", schema={"number": pl.Int64, "origin": pl.String, "delay": pl.Float64, "at": pl.Int64},
    time="at", key="origin", lateness="1m", idle=None, partitions=2,
)
congestion = app.features(
    "congestion",
    departures.window(key="origin", over="1h", every="5m").agg(
        departures=ps.count(), mean_delay=ps.mean("delay"), worst=ps.max("delay"),
    ),
    (pl.col("mean_delay") > 15).alias("bad"),
    defaults={"mean_delay": -1.0, "worst": -2.0}, stale="1m", history=ps.parquet("history", every="200ms"),
)
SIGNATURE = Signature.of(
    inputs={"departures": "INT32[-1]", "mean_delay": "FP32?[-1]", "bad": "FP32[-1]"}, outputs={"y": "FP64[-1]"}
)

@app.callable("late", signature=SIGNATURE, features=[congestion])
def late(inputs):
    return {"y": inputs["departures"] * 1e6 + inputs["mean_delay"].astype(np.float64) + inputs["bad"] / 2}
"""
START_MS = 1_357_000_200_000
"""Some 5 minutes into an hour of 2013."""
KEYS = [f"K{number:02d}" for number in range(12)]
LATE_KEY = "K00"
"""The only one of which events come out of their order."""
CHUNKS = 24
CHUNK_EVENTS = 60
STEP_MS = 300_000
STEPS = 12


def make_events(seed: int) -> pl.DataFrame:
    """Five hours and more; times ascend but for those of one key, which may be late by half a minute."""
    rng = np.random.default_rng(seed)
    count = CHUNKS * CHUNK_EVENTS
    at = START_MS + np.cumsum(rng.integers(1, 26_000, count))
    origins = rng.choice(KEYS, count)
    at = np.where(origins == LATE_KEY, at - rng.integers(0, 30_000, count), at)
    delays = rng.integers(-20, 90, count).astype(np.float64)
    return pl.DataFrame({"number": np.arange(count), "origin": origins, "delay": delays, "at": at})


def oracle(events: pl.DataFrame, key: str, as_of_ms: int) -> tuple[int, float, bool]:
    """What the model takes of the window as of a time."""
    step = pl.col("at") // STEP_MS
    now = as_of_ms // STEP_MS
    within = events.filter(pl.col("origin") == key, step <= now, step > now - STEPS, pl.col("at") <= as_of_ms)
    mean = within["delay"].mean()
    return within.height, -1.0 if mean is None else float(mean), mean is not None and mean > 15  # type: ignore[operator]


class Flights:
    """The server, and the log that its events go into."""

    def __init__(self, server: RunningServer, client: httpx.Client) -> None:
        self.server = server
        self.client = client
        self.log = EmbeddedLog(server.folder / ".penstock" / "log", SystemClock())

    def produce(self, events: pl.DataFrame) -> None:
        values = [msgspec.json.encode(row) for row in events.iter_rows(named=True)]
        keys = [key.encode() for key in events["origin"]]
        producer = self.log.producer()
        records = Records(values=values, times_ms=events["at"].to_numpy(), keys=keys)
        appends = [
            producer.append(TopicPartition("departures", partition), part)
            for partition, part in split_by_partition(records, 2)
        ]
        for append in appends:
            append.result(30)
        producer.close()

    def ask(self, *keys: str) -> tuple[str, list[float]]:
        body = v2_json({"origin": np.array(keys, dtype=object)})
        answer = self.client.post("/v2/models/late/infer", json=body)
        return answer.json()["id"], outputs(answer)["y"].tolist()

    def wait_until_all_is_kept(self) -> None:
        """Heartbeats of the view go on for ever: it is past where it was when the events had been read."""
        self._wait_past("departures")
        self._wait_past("tests.congestion.features")

    def _wait_past(self, topic: str) -> None:
        (ends,) = [info.ends for info in self.log.admin.topics() if info.spec.name == topic]
        wanted = {TopicPartition(topic, place): end for place, end in enumerate(ends)}

        def passed() -> bool:
            lags = {each.source: each.committed or 0 for each in self.log.admin.lags("tests")}
            return all(lags.get(source, 0) >= end for source, end in wanted.items())

        wait_until(passed)


def wait_until(holds: Callable[[], bool], seconds: float = 60) -> None:
    started_s = time.monotonic()
    while not holds():
        assert time.monotonic() - started_s < seconds, "it never came to hold"
        time.sleep(0.05)


def kill_stream_worker(folder: Path) -> None:
    (status,) = json.loads(CommandLine(folder).inside("status", "--json").stdout)
    (worker,) = [each for each in status["workers"] if each["role"].startswith("stream")]
    os.kill(worker["pid"], signal.SIGKILL)


def history_of(folder: Path) -> pl.DataFrame:
    files = list((folder / "history").glob("*.parquet"))
    return pl.read_parquet(files) if files else pl.DataFrame()


def test_what_is_served_is_what_was_known_then_and_is_found_again_bit_for_bit(commands: CommandLine) -> None:
    events = make_events(seed=5)
    rng = np.random.default_rng(6)
    asked: dict[str, list[tuple[str, float]]] = {}
    with running(commands, APP) as server, server.client() as client:
        flights = Flights(server, client)
        wait_until(lambda: "departures" in [each.spec.name for each in flights.log.admin.topics()])
        assert flights.ask("K01", "nobody")[1] == [-1.0, -1.0], "nothing is known yet"
        for number in range(CHUNKS):
            flights.produce(events.slice(number * CHUNK_EVENTS, CHUNK_EVENTS))
            if number == CHUNKS // 2:
                kill_stream_worker(server.folder)
            for _ in range(6):
                keys = [*rng.choice(KEYS, 3).tolist(), "nobody"]
                prediction, answers = flights.ask(*keys)
                asked[prediction] = list(zip(keys, answers, strict=True))
                time.sleep(0.03)
        flights.wait_until_all_is_kept()
        after, answers = flights.ask(*KEYS)
        asked[after] = list(zip(KEYS, answers, strict=True))
        predictions = len(asked)
        wait_until(lambda: recorded_predictions(server.folder) == predictions + 1)
        known = served(server.folder, "late").filter(pl.col("prediction.id").is_in(list(asked)))
        positions = known.filter(pl.col("congestion.position") >= 0)["congestion.position"].unique()
        places = {(position >> 48, position & (1 << 48) - 1) for position in positions.to_list()}
        wait_until(lambda: places <= set(history_of(server.folder).select("partition", "offset").rows()))
        history = history_of(server.folder)
        flights.log.close()

    check_answers(events, known, asked, after)
    check_replay(commands.folder, known, history)


def recorded_predictions(folder: Path) -> int:
    found = served(folder, "late")
    return found["prediction.id"].n_unique() if found.height else 0


def check_answers(
    events: pl.DataFrame, known: pl.DataFrame, asked: dict[str, list[tuple[str, float]]], after: str
) -> None:
    """Each row against Polars, as of when it was read; of the key with late events when all have come."""
    checked = 0
    for row in known.iter_rows(named=True):
        key, answer = asked[row["prediction.id"]][row["prediction.row"]]
        assert row["origin"] == key
        count, mean, bad = row["departures"], row["mean_delay"], row["bad"]
        assert answer == count * 1e6 + float(np.float32(mean)) + bad / 2
        if row["congestion.position"] < 0:
            assert (count, mean, bad) == (0, -1.0, False)
        elif key != LATE_KEY or row["prediction.id"] == after:
            as_of_ms = int(row["congestion.as_of"].timestamp() * 1000)
            assert (count, mean, bad) == oracle(events, key, as_of_ms), row
            checked += 1
    assert checked > 100, "most of what was asked was known"
    assert known["congestion.as_of"].n_unique() > 10, "it was asked as events came"
    assert known.filter(pl.col("prediction.id") == after)["congestion.position"].min() >= 0  # type: ignore[operator]


def check_replay(folder: Path, known: pl.DataFrame, history: pl.DataFrame) -> None:
    """Each row against the history, by where its update stands in the log."""
    app, _ = load_app(str(folder / "app.py"))
    view = app.streams.features["congestion"].view
    position = known["congestion.position"].to_numpy()
    time_ms = known["congestion.as_of"].dt.epoch("ms").to_numpy()
    again, there = as_served(
        view,
        history,
        Asked(known.select("origin"), time_ms, np.full(known.height, 2**60)),
        np.where(position < 0, -1, position >> 48),
        np.where(position < 0, -1, position & ((1 << 48) - 1)),
    )
    assert np.array_equal(there, position >= 0)
    for each in view.features:
        column = again[each.name]
        filled = column.fill_null(pl.lit(each.default, column.dtype))
        assert filled.to_numpy().tobytes() == known[each.name].to_numpy().tobytes(), each.name
