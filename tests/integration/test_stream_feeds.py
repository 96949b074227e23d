"""Streams that are fed from files and functions, and write a Delta table, by workers that are killed."""

import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from command_line import PATIENCE_S
from deltalake import DeltaTable, write_deltalake
from stream_crashes import APP, PARTITIONS, Crashing, Event, kill, ledger, make_events

from penstock.log.partitioning import partitions_of
from penstock.log.records import Records, TopicPartition
from penstock.streams.watchdog import HUNG_STATUS

EVENTS = 2000
FED = (
    APP.replace("partitions=2, expect", "partitions=2, source=SOURCE, expect")
    + 'events.into(ps.delta("table", every="50ms", rows_max=100))\n'
)
FEED = TopicPartition("crashing.events.feed", 0)

CALLED = """
from pathlib import Path

import penstock as ps
import polars as pl

app = ps.App("crashing")


def pages(position):
    for page in range(0 if position is None else position, 300):
        if page == 150 and not Path("mended").exists():
            raise RuntimeError("page 150 is torn")
        yield page + 1, pl.DataFrame({"number": [page * 2, page * 2 + 1], "more": ["x", "y"]})


events = app.stream("events", schema={"number": pl.Int64}, source=ps.call(pages))
other = app.stream("other", schema={"number": pl.Int64})
events.into("out")
other.into("other-out")
"""


HANGING = """
import re
import threading
from pathlib import Path

import penstock as ps
import polars as pl

app = ps.App("crashing")


def pages(position):
    with open("called", "a") as file:
        file.write("x")
    if not Path("mended").exists():
        {HANG}
    yield 1, pl.DataFrame({"number": [7]})


events = app.stream("events", schema={"number": pl.Int64}, source=ps.call(pages))
other = app.stream("other", schema={"number": pl.Int64})
events.into("out")
other.into("other-out")
"""


@pytest.fixture
def crashing(tmp_path: Path) -> Iterator[Crashing]:
    found = Crashing(tmp_path)
    yield found
    found.close()


def by_the_log(events: list[Event]) -> list[Event]:
    """In the partitions that their keys fall into; the last one of each partition falls into that."""
    ends = {partition_of(key): key for key in (f"end {number}" for number in range(20))}
    assert len(ends) == PARTITIONS
    *rest, first, second = events
    last = [replace(each, key=ends[each.partition]) for each in (first, second)]
    return [replace(each, partition=partition_of(each.key)) for each in (*rest, *last)]


def partition_of(key: str) -> int:
    return int(partitions_of([key.encode()], PARTITIONS)[0])


def frames(events: list[Event], rows: int) -> Iterator[pl.DataFrame]:
    table = pl.DataFrame(events, orient="row").drop("partition")
    return table.iter_slices(rows)


def write_files(folder: Path, events: list[Event], begin: int = 0) -> None:
    folder.mkdir(exist_ok=True)
    for number, frame in enumerate(frames(events, 350), start=begin):
        frame.write_parquet(folder / f".{number:03}")
        (folder / f".{number:03}").replace(folder / f"{number:03}.parquet")


def wait_until_fed(crashing: Crashing, count: int) -> None:
    crashing.wait_for(lambda: sum(crashing.ends()["events"]) >= count and crashing.done())
    assert sum(crashing.ends()["events"]) == count


def check(crashing: Crashing, events: list[Event]) -> None:
    """Topics and the table are the ledger's."""
    expected = ledger(events)
    crashing.check(expected)
    numbers = sorted(int(str(row["number"])) for rows in expected.read.values() for row in rows)
    crashing.wait_for(lambda: len(table_numbers(crashing)) >= len(numbers))
    assert sorted(table_numbers(crashing)) == numbers


def table_numbers(crashing: Crashing) -> list[int]:
    folder = str(crashing.folder / "table")
    if not DeltaTable.is_deltatable(folder):
        return []
    files = DeltaTable(folder).file_uris()
    return list(pl.concat([pl.read_parquet(file, columns=["number"]) for file in files])["number"])


def start_fed(crashing: Crashing, source: str) -> None:
    crashing.write_app(FED.replace("SOURCE", source))
    crashing.make_topics()


def test_files_through_kills_at_random(crashing: Crashing) -> None:
    rng = np.random.default_rng(8)
    events = by_the_log(make_events(EVENTS, seed=8))
    write_files(crashing.folder / "input", events[:1400])
    start_fed(crashing, 'ps.parquet("input")')
    for _ in range(4):
        worker = crashing.start()
        time.sleep(float(rng.uniform(0.6, 1.6)))
        kill(worker)
    crashing.start(1)
    crashing.start(2)
    write_files(crashing.folder / "input", events[1400:], begin=10)
    wait_until_fed(crashing, len(events))
    check(crashing, events)


@pytest.mark.parametrize(
    "place", ["feed:3:kill", "fed:3:kill", "committed:12:kill", "feed:3:raise", "fed:3:raise"]
)
def test_files_through_a_failure(crashing: Crashing, place: str) -> None:
    events = by_the_log(make_events(EVENTS, seed=9))
    write_files(crashing.folder / "input", events)
    start_fed(crashing, 'ps.parquet("input/*.parquet")')
    worker = crashing.start(failpoint=place)
    if place.endswith("kill"):
        assert worker.wait(PATIENCE_S) == -signal.SIGKILL
        crashing.start()
    wait_until_fed(crashing, len(events))
    check(crashing, events)


def test_a_feed_whose_owner_sleeps_past_its_lease_is_fenced(
    crashing: Crashing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEASE_S", "1.5")
    events = by_the_log(make_events(EVENTS, seed=10))
    write_files(crashing.folder / "input", events)
    start_fed(crashing, 'ps.parquet("input")')
    stopped = crashing.start(1, failpoint="feed:4:stop")
    crashing.wait_for(lambda: crashing.ends()["crashing.events.feed"][0] >= 3)
    crashing.start(2)
    wait_until_fed(crashing, len(events))
    stopped.send_signal(signal.SIGCONT)
    crashing.wait_for(lambda: len(crashing.members()) == 2)
    check(crashing, events)


def test_a_table_and_what_is_added_to_it(crashing: Crashing) -> None:
    events = by_the_log(make_events(EVENTS, seed=11))
    head, tail = events[:1500], events[1500:]
    source = str(crashing.folder / "source")
    write_deltalake(source, next(frames(head, len(head))), mode="append")
    start_fed(crashing, 'ps.delta("source")')
    worker = crashing.start()
    crashing.wait_for(lambda: sum(crashing.ends()["events"]) > 0)
    kill(worker)
    crashing.start()
    write_deltalake(source, next(frames(tail, len(tail))), mode="append")
    wait_until_fed(crashing, len(events))
    check(crashing, events)


def test_a_function_is_asked_for_what_comes_next(crashing: Crashing) -> None:
    crashing.write_app(CALLED)
    crashing.make_topics()
    worker = crashing.start()
    crashing.wait_for(lambda: crashing.ends()["events"][0] >= 100)
    kill(worker)
    crashing.start()
    crashing.wait_for(lambda: "page 150 is torn" in crashing.told())
    assert crashing.ends()["events"] == (300,)
    assert "stands still, all else goes on" in crashing.told()
    (crashing.folder / "mended").touch()
    crashing.wait_for(lambda: crashing.ends()["out"][0] >= 600)
    assert [row["number"] for row in crashing.rows("out")[0]] == list(range(600))
    assert crashing.rows("events")[0][0] == {"number": 0}
    lags = {lag.source: lag.lag for lag in crashing.log.admin.lags("crashing")}
    assert lags[FEED] == 0


@pytest.mark.parametrize(
    ("hang", "status"),
    [
        ("threading.Event().wait()", HUNG_STATUS),
        ('re.match(r"(a+)+$", "a" * 40 + "b")', -signal.SIGALRM),
    ],
)
def test_a_source_that_hangs_ends_its_process_and_all_else_goes_on_before_it_is_called_again(
    crashing: Crashing, monkeypatch: pytest.MonkeyPatch, hang: str, status: int
) -> None:
    monkeypatch.setenv("HANG_S", "1")
    monkeypatch.setenv("FEED_POLL_S", "3")
    crashing.write_app(HANGING.replace("{HANG}", hang))
    crashing.make_topics()
    called = crashing.folder / "called"
    assert crashing.start().wait(PATIENCE_S) == status
    assert called.read_text() == "x"
    producer = crashing.log.producer()
    other = Records(values=[b'{"number": 1}'], times_ms=np.zeros(1, dtype=np.int64))
    producer.append(TopicPartition("other", 0), other).result()
    worker = crashing.start()
    crashing.wait_for(lambda: bool(crashing.rows("other-out")[0]))
    assert called.read_text() == "x", "it has a pause"
    assert "has ended its process 1 times: not done within 1 s" in crashing.told()
    (crashing.folder / "mended").touch()
    crashing.wait_for(lambda: bool(crashing.rows("out")[0]))
    assert worker.poll() is None
    assert "feed events goes on" in crashing.told()
