"""Workers that are killed, stopped, fenced and moved: the output is what the ledger says, to the row."""

import os
import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from command_line import PATIENCE_S
from stream_crashes import (
    HANGING,
    HANGING_CLOSED,
    PARTITIONS,
    SLOW,
    START_MS,
    Crashing,
    Event,
    kill,
    ledger,
    make_events,
)

from penstock.streams.watchdog import HUNG_STATUS

EVENTS = 1500
CRASHES = int(os.environ.get("CRASHES", "4"))
"""Kills at random; `make crash CRASHES=200` for the long form."""
COUNTS = {"snapshot": 2, "revoke": 1}
"""Places that are passed less often."""
FAILPOINTS = ("poll", "compute", "state", "output", "commit", "committed", "snapshot", "revoke")


@pytest.fixture
def crashing(tmp_path: Path) -> Iterator[Crashing]:
    found = Crashing(tmp_path)
    yield found
    found.close()


def test_kills_at_random(crashing: Crashing) -> None:
    rng = np.random.default_rng(CRASHES)
    events = make_events(max(EVENTS, CRASHES * 300), seed=1)
    crashing.make_topics()
    worker = crashing.start()
    parts = np.array_split(np.arange(len(events)), CRASHES)
    for part in parts:
        crashing.produce([events[place] for place in part.tolist()])
        time.sleep(float(rng.uniform(0.3, 1.5)))
        kill(worker)
        worker = crashing.start()
    crashing.wait_until_done()
    crashing.check(ledger(events))


@pytest.mark.parametrize("place", FAILPOINTS)
def test_a_kill_at_every_failpoint(crashing: Crashing, place: str) -> None:
    events = make_events(EVENTS, seed=2)
    crashing.make_topics()
    crashing.produce(events)
    worker = crashing.start(failpoint=f"{place}:{COUNTS.get(place, 7)}:kill")
    if place == "revoke":
        crashing.wait_for(lambda: any(crashing.ends()["read"]))
        crashing.start(2)  # with whom it has to share
    assert worker.wait(PATIENCE_S) == -signal.SIGKILL
    crashing.start()
    crashing.wait_until_done()
    crashing.check(ledger(events))


@pytest.mark.parametrize("place", ["compute", "state", "output", "commit", "committed"])
def test_what_fails_is_done_again_from_what_was_committed(crashing: Crashing, place: str) -> None:
    events = make_events(EVENTS, seed=3)
    crashing.make_topics()
    crashing.produce(events)
    crashing.start(failpoint=f"{place}:5:raise")
    crashing.wait_until_done()
    assert "told to fail here" in crashing.told()
    crashing.check(ledger(events))


def test_workers_come_and_go_under_load(crashing: Crashing) -> None:
    events = make_events(EVENTS, seed=4)
    crashing.make_topics()
    first = crashing.start(1)
    parts = np.array_split(np.arange(len(events)), 3)
    crashing.produce([events[place] for place in parts[0].tolist()])
    second = crashing.start(2)
    crashing.wait_for(lambda: len(crashing.members()) == 2 and all(crashing.members().values()))
    crashing.produce([events[place] for place in parts[1].tolist()])
    crashing.wait_until_done()
    first.send_signal(signal.SIGTERM)
    assert first.wait(PATIENCE_S) == 0
    crashing.produce([events[place] for place in parts[2].tolist()])
    crashing.wait_until_done()
    assert len(crashing.members()) == 1
    kill(second)
    crashing.check(ledger(events))


def test_a_worker_that_was_stopped_past_its_lease_is_fenced(
    crashing: Crashing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEASE_S", "1.5")
    events = make_events(EVENTS, seed=5)
    crashing.make_topics()
    half = len(events) // 2
    # It stops itself with a transaction in its hands.
    stopped = crashing.start(1, failpoint="commit:3:stop")
    crashing.produce(events[:half])
    crashing.wait_for(lambda: psutil.Process(stopped.pid).status() == psutil.STATUS_STOPPED)
    crashing.start(2)
    crashing.wait_until_done()
    stopped.send_signal(signal.SIGCONT)
    crashing.produce(events[half:])
    crashing.wait_for(lambda: len(crashing.members()) == 2 and all(crashing.members().values()))
    crashing.wait_until_done()
    crashing.check(ledger(events))


def test_a_worker_whose_function_takes_longer_than_its_lease_keeps_its_partitions(
    crashing: Crashing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEASE_S", "2")
    crashing.write_app(SLOW)
    crashing.make_topics()
    for number in (1, 2):
        crashing.start(number)
    crashing.wait_for(lambda: sorted(crashing.members().values()) == [1, 1])
    crashing.produce([Event(n, n % PARTITIONS, f"key {n}", "g", START_MS + n, n) for n in range(60)])
    crashing.wait_until_done()
    assert "another" not in (crashing.folder / "worker.log").read_text()
    out = sorted(row["number"] for rows in crashing.rows("out").values() for row in rows)
    assert out == list(range(60))


def test_a_full_disk_loses_nothing(crashing: Crashing) -> None:
    events = make_events(EVENTS, seed=6)
    crashing.make_topics()
    worker = crashing.start()
    half = len(events) // 2
    crashing.produce(events[:half])
    crashing.wait_until_done()
    before = resource.prlimit(worker.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (4096, before[1]))
    crashing.produce(events[half:])
    crashing.wait_for(lambda: "nothing was committed" in crashing.told())
    assert not crashing.done()
    resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, before)
    crashing.wait_until_done()
    assert worker.poll() is None, "it goes on by itself"
    crashing.check(ledger(events))


def test_a_function_that_hangs_is_found_out(crashing: Crashing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANG_S", "0.7")
    crashing.write_app(HANGING)
    crashing.make_topics()
    events = [Event(n, n % PARTITIONS, f"key {n}", "g", START_MS + n, n) for n in range(60)]
    crashing.produce(events)
    ends = 0
    while not crashing.done() and ends < 20:
        worker = crashing.start()
        crashing.wait_for(lambda worker=worker: crashing.done() or worker.poll() is not None)
        ends += worker.poll() == HUNG_STATUS
    assert 0 < ends <= 10
    out = sorted(row["number"] for rows in crashing.rows("out").values() for row in rows)
    assert out == [n for n in range(60) if n != 23]
    (letter,) = [row for rows in crashing.rows("events.dead").values() for row in rows]
    assert letter["number"] == 23


def test_a_function_that_hangs_on_a_window_accuses_no_event(
    crashing: Crashing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HANG_S", "0.7")
    crashing.write_app(HANGING_CLOSED)
    crashing.make_topics()
    crashing.produce([Event(n, n % PARTITIONS, f"key {n}", "g", START_MS + n, n) for n in range(16, 32)])

    def letters() -> list[dict[str, object]]:
        return [row for rows in crashing.rows("events.dead").values() for row in rows]

    ends = 0
    while not letters() and ends < 12:
        worker = crashing.start()
        crashing.wait_for(lambda worker=worker: bool(letters()) or worker.poll() is not None)
        ends += worker.poll() == HUNG_STATUS
    assert 0 < ends <= 6
    crashing.wait_for(lambda: sum(map(len, crashing.rows("out").values())) == 15)
    assert [letter["number"] for letter in letters()] == [23]
    out = sorted(row["number"] for rows in crashing.rows("out").values() for row in rows)
    assert out == [n for n in range(16, 32) if n != 23]


def test_damaged_snapshots_are_passed_over(crashing: Crashing) -> None:
    events = make_events(EVENTS, seed=7)
    crashing.make_topics()
    worker = crashing.start()
    half = len(events) // 2
    for count, part in enumerate((events[: half // 2], events[half // 2 : half]), start=1):
        crashing.produce(part)
        crashing.wait_for(lambda count=count: len(crashing.snapshots()) >= count)
    crashing.wait_until_done()
    kill(worker)
    newest = max(crashing.snapshots(), key=lambda path: path.name)
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    crashing.start()
    crashing.produce(events[half:])
    crashing.wait_until_done()
    assert "is damaged; an older one is taken" in crashing.told()
    crashing.check(ledger(events))
