"""Functions that bring down their process: the record at fault is found, all others get through, each once."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from command_line import PATIENCE_S
from stream_crashes import PARTITIONS, Crashing, kill
from stream_endings import (
    BESIDE,
    CLOSED,
    DELIVERED,
    ENDS,
    EXITS_ASYNC,
    FORKING,
    REASONS,
    RECORDS,
    SLOW,
    STATUS,
    app_of,
    core_dumps_off,
    events,
    letters,
    numbers,
    run_to_the_end,
)

from penstock.streams.last_words import SILENT

EVENTS = 60


@pytest.fixture
def crashing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Crashing]:
    core_dumps_off()
    monkeypatch.setenv("HANG_S", "1")
    found = Crashing(tmp_path)
    yield found
    found.close()


@pytest.mark.parametrize("ending", STATUS)
def test_a_record_that_ends_the_process_is_found(crashing: Crashing, ending: str) -> None:
    crashing.write_app(app_of(RECORDS, {23: ending}))
    crashing.make_topics()
    crashing.produce(events(EVENTS))
    assert run_to_the_end(crashing, EVENTS) == [STATUS[ending]] * ENDS[ending]
    crashing.wait_until_done()
    ((number, (reason, detail)),) = letters(crashing).items()
    assert (number, reason) == (23, REASONS[ending])
    if ending in ("regular expression", "segmentation fault", "abort"):
        assert "in ends (app.py, line " in detail or "in <module> (<string>, line 1)" in detail
    for partition in range(PARTITIONS):
        wanted = [n for n in range(EVENTS) if n % PARTITIONS == partition and n != 23]
        assert [n for n in numbers(crashing, "out") if n % PARTITIONS == partition] == wanted
    assert "record from offset 11 condemned" in crashing.told()


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_a_function_that_exits_is_one_that_raises(crashing: Crashing, kind: str) -> None:
    text = RECORDS if kind == "plain" else EXITS_ASYNC
    crashing.write_app(app_of(text, {23: "polite exit"}))
    crashing.make_topics()
    crashing.produce(events(EVENTS))
    assert run_to_the_end(crashing, EVENTS) == []
    assert letters(crashing) == {23: ("raised", "SystemExit: 2")}
    assert sorted(numbers(crashing, "out")) == [n for n in range(EVENTS) if n != 23]


def test_several_that_end_it_in_several_ways_are_all_found(crashing: Crashing) -> None:
    endings = {23: "segmentation fault", 25: "exit", 40: "regular expression"}
    crashing.write_app(app_of(RECORDS, endings))
    crashing.make_topics()
    crashing.produce(events(EVENTS))
    assert len(run_to_the_end(crashing, EVENTS)) <= 13
    assert {number: reason for number, (reason, _) in letters(crashing).items()} == {
        number: REASONS[ending] for number, ending in endings.items()
    }
    assert sorted(numbers(crashing, "out")) == [n for n in range(EVENTS) if n not in endings]


def test_who_is_killed_by_others_accuses_nobody_for_good(crashing: Crashing) -> None:
    """Nearly all of the time a function is at work."""
    rng = np.random.default_rng(7)
    crashing.write_app(app_of(RECORDS, {}, slow_s=0.3))
    crashing.make_topics()
    crashing.produce(events(EVENTS))
    for _ in range(4):
        worker = crashing.start()
        crashing.wait_for((crashing.folder / "started.1").exists)
        time.sleep(float(rng.uniform(0.2, 0.8)))
        kill(worker)
        (crashing.folder / "started.1").unlink()
    assert "a worker ended with it at work" in crashing.told()
    assert run_to_the_end(crashing, EVENTS) == []
    assert letters(crashing) == {}
    assert sorted(numbers(crashing, "out")) == list(range(EVENTS))


def test_who_was_stopped_amid_a_function_accuses_nobody_for_good(
    crashing: Crashing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends when it goes on: what runs in a timer of the system cannot tell."""
    monkeypatch.setenv("HANG_S", "2")
    crashing.write_app(app_of(RECORDS, {}, slow_s=0.5))
    crashing.make_topics()
    crashing.produce(events(EVENTS))
    worker = crashing.start()
    crashing.wait_for((crashing.folder / "at work").exists)
    worker.send_signal(signal.SIGSTOP)
    time.sleep(4)
    worker.send_signal(signal.SIGCONT)
    assert worker.wait(PATIENCE_S) == -signal.SIGALRM
    assert run_to_the_end(crashing, EVENTS) == []
    assert letters(crashing) == {}
    assert sorted(numbers(crashing, "out")) == list(range(EVENTS))


def test_what_holds_the_lock_for_longer_than_a_lease_is_no_end(
    crashing: Crashing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as it does not take longer than a function may."""
    monkeypatch.setenv("HANG_S", "30")
    monkeypatch.setenv("LEASE_LEAST_S", "0.6")
    crashing.write_app(app_of(SLOW, {}))
    crashing.make_topics()
    workers = [crashing.start(number) for number in (1, 2)]
    crashing.wait_for(lambda: len(crashing.members()) == 2)
    crashing.produce(events(EVENTS))
    crashing.wait_for(lambda: len(numbers(crashing, "out")) == EVENTS)
    assert [worker.poll() for worker in workers] == [None, None]
    assert "suspected" not in crashing.told()
    assert "lost" not in crashing.told()


def test_how_a_forked_child_ends_is_no_word_of_its_parent(
    crashing: Crashing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HANG_S", "20")
    crashing.write_app(app_of(FORKING, {}))
    crashing.make_topics()
    crashing.produce(events(EVENTS))
    for _ in range(2):
        worker = crashing.start()
        crashing.wait_for((crashing.folder / "started.1").exists)
        time.sleep(0.8)
        kill(worker)
        (crashing.folder / "started.1").unlink()
    crashing.start()
    crashing.wait_for(lambda: "suspected" in crashing.told())
    assert "Segmentation" not in crashing.told()
    assert SILENT in crashing.told()


@pytest.mark.parametrize("ending", ["segmentation fault", "regular expression"])
def test_a_window_that_ends_the_process_accuses_no_event(crashing: Crashing, ending: str) -> None:
    crashing.write_app(app_of(CLOSED, {23: ending}))
    crashing.make_topics()
    crashing.produce(events(40)[16:32])
    assert run_to_the_end(crashing, 16) == [STATUS[ending]] * 4
    assert {number: reason for number, (reason, _) in letters(crashing).items()} == {23: REASONS[ending]}
    assert sorted(numbers(crashing, "out")) == [n for n in range(16, 32) if n != 23]


def test_a_window_that_ends_the_function_it_is_delivered_to_is_found(crashing: Crashing) -> None:
    crashing.write_app(app_of(DELIVERED, {23: "exit"}))
    crashing.make_topics()
    crashing.produce(events(40)[16:32])
    run_to_the_end(crashing, 17)
    assert list(letters(crashing)) == [23]
    assert sorted(numbers(crashing, "out")) == list(range(16, 32)), "another output has it"
    delivered = [int(line) for line in (crashing.folder / "delivered.txt").read_text().split()]
    assert set(delivered) == set(range(16, 32)) - {23}


def test_a_record_that_ends_the_process_after_all_functions_is_found_where_windows_were_at_work_too(
    crashing: Crashing,
) -> None:
    crashing.write_app(app_of(BESIDE, {3: "in its commit"}))
    crashing.make_topics()
    crashing.produce(events(8))
    assert run_to_the_end(crashing, 8) == [1] * 8
    ((number, (reason, detail)),) = letters(crashing).items()
    assert (number, reason) == (3, "crashed")
    assert detail.endswith("its functions had returned")
    assert sorted(numbers(crashing, "out")) == [0, 1, 2, 4, 5, 6, 7]
    assert set(numbers(crashing, "closed")) <= {0, 1, 2, 4, 5}
    assert "rows of windows and joins set aside once" in crashing.told()


def test_windows_that_end_the_process_after_all_functions_are_set_aside_with_those_of_their_partition(
    crashing: Crashing,
) -> None:
    crashing.write_app(app_of(CLOSED, {3: "in its commit"}))
    crashing.make_topics()
    crashing.produce(events(8))
    assert set(run_to_the_end(crashing, 8)) == {1}
    assert letters(crashing).keys() == {1, 3, 5, 7}
    assert sorted(numbers(crashing, "out")) == [0, 2, 4, 6]


def test_an_interrupt_in_a_window_s_function_is_an_end_like_others(crashing: Crashing) -> None:
    crashing.write_app(app_of(CLOSED, {3: "interrupted"}))
    crashing.make_topics()
    crashing.produce(events(4))
    assert len(run_to_the_end(crashing, 4)) <= 7
    ((number, (reason, detail)),) = letters(crashing).items()
    assert (number, reason) == (3, "crashed")
    assert "the engine ended by KeyboardInterrupt" in detail
    assert sorted(numbers(crashing, "out")) == [0, 1, 2]


def test_another_worker_goes_on_where_one_was_brought_down(
    crashing: Crashing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The partition moves with what is known of it; nobody is brought down more often for that."""
    monkeypatch.setenv("LEASE_S", "1.5")
    crashing.write_app(app_of(RECORDS, {23: "segmentation fault"}))
    crashing.make_topics()
    workers = [crashing.start(number) for number in (1, 2, 3, 4)]
    crashing.wait_for(lambda: len(crashing.members()) == 4)
    crashing.produce(events(EVENTS))
    crashing.wait_for(lambda: len(numbers(crashing, "out")) + len(letters(crashing)) == EVENTS)
    assert sorted(worker.poll() or 0 for worker in workers) == [STATUS["segmentation fault"]] * 3 + [0]
    assert list(letters(crashing)) == [23]
    assert sorted(numbers(crashing, "out")) == [n for n in range(EVENTS) if n != 23]
