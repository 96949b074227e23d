"""An app of streams whose workers are killed, and a ledger that says what its output has to be."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from command_line import PATIENCE_S

from penstock.app.loading import load_app
from penstock.core.clock import SystemClock
from penstock.core.failpoints import FAILPOINT_VARIABLE
from penstock.log.opening import open_log
from penstock.log.port import Log
from penstock.log.records import Records, TopicPartition
from penstock.streams.topology import topology

APP = """
import penstock as ps
import polars as pl

app = ps.App("crashing")
events = app.stream(
    "events",
    schema={"number": pl.Int64, "key": pl.String, "group": pl.String, "at": pl.Int64, "value": pl.Int64},
    time="at", key="key", lateness="1s", idle=None, partitions=2, expect={"positive": pl.col("value") >= 0},
)
by_key = events.window(key="key", over="10s", every="2s").agg(count=ps.count(), total=ps.sum("value"))
events.enrich(by_key).into("read", partitions=2)
by_key.into("closed", partitions=2)
events.window(key="group", over="5s").agg(count=ps.count(), top=ps.max("value")).into("grouped", partitions=2)
events.late.into("late")
"""
"""Nothing of it depends on when it runs: its output is known from its input alone."""

SLOW = """
import threading

import penstock as ps
import polars as pl

app = ps.App("crashing")


def slow(frame):
    if (frame["number"] == 23).any():
        threading.Event().wait(5.0)
    return frame


events = app.stream(
    "events", schema={"number": pl.Int64, "at": pl.Int64}, time="at", lateness="1h", idle=None, partitions=2
)
events.map(slow, schema={"number": pl.Int64, "at": pl.Int64}).into("out")
"""
"""For a record that takes longer than a lease, which is set to less."""

HANGING = """
import threading

import penstock as ps
import polars as pl

app = ps.App("crashing")


def hangs(frame):
    if (frame["number"] == 23).any():
        threading.Event().wait()
    return frame


events = app.stream(
    "events", schema={"number": pl.Int64, "at": pl.Int64}, time="at", lateness="1h", idle=None, partitions=2
)
events.map(hangs, schema={"number": pl.Int64, "at": pl.Int64}).into("out")
"""

HANGING_CLOSED = """
import threading

import penstock as ps
import polars as pl

app = ps.App("crashing")


def hangs(frame):
    if (frame["number"] == 23).any():
        threading.Event().wait()
    return frame.select("number", "_time", "_offset")


events = app.stream(
    "events", schema={"number": pl.Int64, "at": pl.Int64}, time="at", key="number", idle="500ms", partitions=2
)
windows = events.window(key="number", over="1s").agg(count=ps.count())
windows.closed.map(hangs, schema={"number": pl.Int64}).into("out")
"""
"""The windows close when no more events come: no record makes them."""

START_MS = 1_700_000_000_000
LATENESS_MS = 1000
PARTITIONS = 2
BATCH = 50
END_MS = 120_000
"""So far after the last event comes one in each partition that closes all windows."""


@dataclass(frozen=True)
class Event:
    number: int
    partition: int
    key: str
    group: str
    at: int
    value: int


def make_events(count: int, seed: int) -> list[Event]:
    """Out of order, some of them late, some that are not as expected; then the last of each partition."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        key = int(rng.integers(20))
        delay_ms = int(rng.integers(900)) if rng.random() < 0.95 else int(rng.integers(8000))
        value = int(rng.integers(1000)) if rng.random() < 0.99 else -1
        at = START_MS + number * 10 - delay_ms
        found.append(Event(number, key % PARTITIONS, f"key {key}", f"group {key % 7}", at, value))
    last = START_MS + count * 10 + END_MS
    return found + [
        Event(count + partition, partition, f"end {partition}", "end", last, 0)
        for partition in range(PARTITIONS)
    ]


@dataclass(frozen=True)
class Ledger:
    """What the output has to be: rows, in their order where that is promised."""

    read: dict[int, list[dict[str, object]]]
    closed: set[tuple[object, ...]]
    grouped: set[tuple[object, ...]]
    late: set[int]
    dead: set[int]


def ledger(events: list[Event]) -> Ledger:
    """By Polars over all events, and a loop where Polars has nothing for it."""
    table = pl.DataFrame(events, orient="row").with_row_index("arrival")
    dead = table.filter(pl.col("value") < 0)
    good = table.filter(pl.col("value") >= 0).with_columns(
        watermark=pl.col("at").cum_max().shift(1).over("partition") - LATENESS_MS
    )
    is_late = (pl.col("at") < pl.col("watermark")).fill_null(value=False)
    on_time = good.filter(~is_late)
    return Ledger(
        read={
            partition: _read(on_time.filter(pl.col("partition") == partition))
            for partition in range(PARTITIONS)
        },
        closed=_closed(on_time, "key", 10_000, 2000, pl.col("value").sum()),
        grouped=_closed(on_time, "group", 5000, 5000, pl.col("value").max()),
        late=set(good.filter(is_late)["number"]),
        dead=set(dead["number"]),
    )


def _read(rows: pl.DataFrame) -> list[dict[str, object]]:
    """Each event with its window as of its arrival: the steps up to its own, of events that came before it."""
    seen: dict[str, list[tuple[int, int]]] = {}
    found = []
    for row in rows.iter_rows(named=True):
        step = row["at"] // 2000
        mine = seen.setdefault(row["key"], [])
        mine.append((step, row["value"]))
        window = [value for other, value in mine if step - 5 < other <= step]
        found.append({"number": row["number"], "count": len(window), "total": sum(window)})
    return found


def _closed(rows: pl.DataFrame, by: str, over: int, every: int, aggregate: pl.Expr) -> set[tuple[object, ...]]:
    """Every window that has an event and has closed: the last event closes all but its own."""
    watermark = int(rows.group_by("partition").agg(pl.col("at").max())["at"].min()) - LATENESS_MS  # type: ignore[arg-type]
    ends = pl.concat(
        [
            rows.with_columns(end=(pl.col("at") // every + 1) * every + shift * every)
            for shift in range(over // every)
        ]
    )
    closed = ends.filter(pl.col("end") <= watermark).group_by(by, "end").agg(count=pl.len(), top=aggregate)
    return set(closed.iter_rows())


class Crashing:
    """The app in a folder, its input, and its workers: processes by themselves, without a supervisor."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.write_app(APP)
        self._workers: list[subprocess.Popen[bytes]] = []
        self.log: Log = open_log("", folder / ".penstock", SystemClock())

    def write_app(self, text: str) -> None:
        (self.folder / "app.py").write_text(text)

    def start(self, number: int = 1, failpoint: str | None = None) -> "subprocess.Popen[bytes]":
        environment = dict(os.environ)
        environment.pop(FAILPOINT_VARIABLE, None)
        if failpoint is not None:
            environment[FAILPOINT_VARIABLE] = failpoint
        driver = Path(__file__).parent / "stream_process.py"
        command = [sys.executable, str(driver), str(number)]
        with (self.folder / "worker.log").open("ab") as log:
            worker = subprocess.Popen(command, cwd=self.folder, env=environment, stderr=log)
        self._workers.append(worker)
        return worker

    def make_topics(self) -> None:
        """As the worker would; so that events can be there before it."""
        app, _ = load_app(str(self.folder / "app.py"))
        self.log.admin.ensure_topics(topology(app.streams.graph, {}).topics)

    def produce(self, events: list[Event]) -> None:
        producer = self.log.producer()
        for partition in range(PARTITIONS):
            rows = [event for event in events if event.partition == partition]
            for begin in range(0, len(rows), BATCH):
                values = [_value(event) for event in rows[begin : begin + BATCH]]
                times_ms = np.zeros(len(values), dtype=np.int64)
                target = TopicPartition("events", partition)
                producer.append(target, Records(values=values, times_ms=times_ms)).result()
        producer.close()

    def ends(self) -> dict[str, tuple[int, ...]]:
        return {info.spec.name: info.ends for info in self.log.admin.topics()}

    def done(self) -> bool:
        """Whether all that was produced is processed, in both stages."""
        ends = self.ends()
        lags = {lag.source: lag for lag in self.log.admin.lags("crashing")}
        for topic in {"events", "crashing.events.by.group"} & set(ends):
            for partition, end in enumerate(ends[topic]):
                lag = lags.get(TopicPartition(topic, partition))
                if end and (lag is None or lag.committed != end):
                    return False
        return True

    def wait_until_done(self) -> None:
        self.wait_for(self.done)

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline_s, self.told()
            time.sleep(0.05)

    def members(self) -> dict[str, int]:
        """How many partitions each member of the group has."""
        return {each.member: len(each.partitions) for each in self.log.admin.members("crashing")}

    def snapshots(self) -> list[Path]:
        return list((self.folder / ".penstock/streams/snapshots/events/0").glob("*.state"))

    def told(self) -> str:
        log = self.folder / "worker.log"
        lags = [str(lag) for lag in self.log.admin.lags("crashing")]
        return f"not done: {self.ends()} {lags}\n{log.read_text()[-4000:] if log.exists() else ''}"

    def rows(self, topic: str) -> dict[int, list[dict[str, object]]]:
        """What is in a topic, by its partitions."""
        found: dict[int, list[dict[str, object]]] = {}
        for partition, end in enumerate(self.ends()[topic]):
            values: list[bytes] = []
            offset = 0
            while offset < end:
                fetched = self.log.admin.read(TopicPartition(topic, partition), offset, records_max=10_000)
                values += fetched.records.values
                offset = fetched.next_offset
            found[partition] = [json.loads(value) for value in values]
        return found

    def check(self, expected: Ledger) -> None:
        """That the output is the ledger's: nothing missing, nothing twice, in order."""
        read = [row for rows in self.rows("read").values() for row in rows]
        wanted = {row["number"]: row for rows in expected.read.values() for row in rows}
        assert len(read) == len(wanted), f"{len(read)} events were read, {len(wanted)} there are\n{self.told()}"
        for row in read:
            assert {name: row[name] for name in ("number", "count", "total")} == wanted[row["number"]]
        for rows in self.rows("read").values():
            numbers: dict[str, int] = {}
            for row in rows:
                assert numbers.get(row["key"], -1) < row["number"], "a key's events keep their order"  # type: ignore[call-overload,operator]
                numbers[row["key"]] = row["number"]  # type: ignore[index,assignment]
        _check_closed(self.rows("closed"), "key", "total", expected.closed)
        _check_closed(self.rows("grouped"), "group", "top", expected.grouped)
        _check_numbers(self.rows("late"), expected.late)
        _check_numbers(self.rows("events.dead"), expected.dead)

    def close(self) -> None:
        for worker in self._workers:
            if worker.poll() is None:
                kill(worker)
        self.log.close()


def _check_closed(
    rows: dict[int, list[dict[str, object]]], by: str, aggregate: str, expected: set[tuple[object, ...]]
) -> None:
    flat = [row for each in rows.values() for row in each]
    ends = (
        pl.Series([row["window_end"] for row in flat], dtype=pl.String)
        .str.to_datetime(time_unit="ms")
        .dt.epoch("ms")
    )
    found = [
        (row[by], end, row["count"], row[aggregate]) for row, end in zip(flat, ends.to_list(), strict=True)
    ]
    assert len(found) == len(set(found)), "no window is given out twice"
    assert set(found) == expected


def _check_numbers(rows: dict[int, list[dict[str, object]]], expected: set[int]) -> None:
    found = [row["number"] for each in rows.values() for row in each]
    assert len(found) == len(set(found))
    assert set(found) == expected


def _value(event: Event) -> bytes:
    return json.dumps({**event.__dict__}).encode()


def kill(process: "subprocess.Popen[bytes]", number: int = signal.SIGKILL) -> None:
    process.send_signal(number)
    process.wait(PATIENCE_S)
