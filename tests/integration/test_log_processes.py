"""Several processes on one log: at once, killed, stopped and let go on again."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from penstock.core.clock import SystemClock
from penstock.core.errors import StorageFailed
from penstock.log.embedded import EmbeddedLog, LogLimits
from penstock.log.port import TopicSpec
from penstock.log.records import Records, TopicPartition

PROGRAMS = Path(__file__).with_name("log_programs.py")
PARTITIONS = 4
WAIT_S_MAX = 60.0
Process = subprocess.Popen[str]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EmbeddedLog]:
    with EmbeddedLog(tmp_path / "log", SystemClock()) as log:
        log.admin.ensure_topics([TopicSpec(name=name, partitions=PARTITIONS) for name in ("in", "out")])
        yield log


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Starts one of the programs on the log; all are killed at the end."""
    processes: list[Process] = []

    def start(name: str, *arguments: object) -> Process:
        command = [sys.executable, str(PROGRAMS), name, str(tmp_path / "log"), *map(str, arguments)]
        processes.append(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        )
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def line(process: Process, beginning: str) -> str:
    """The next line that begins so."""
    assert process.stdout is not None
    for each in process.stdout:
        if each.startswith(beginning):
            return each.strip()
    raise AssertionError(f"the process ended without saying {beginning!r}")


def until(holds: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + WAIT_S_MAX
    while not holds():
        assert time.monotonic() < deadline_s, "it did not come to pass"
        time.sleep(0.02)


def values(log: EmbeddedLog, topic: str, number: int) -> list[str]:
    read = log.admin.read(TopicPartition(topic, number), 0, records_max=1_000_000)
    assert read.offsets.tolist() == list(range(len(read.records)))
    return [value.decode() for value in read.records.values]


def all_copied(log: EmbeddedLog) -> bool:
    lags = log.admin.lags("copiers")
    return len(lags) == PARTITIONS and not any(lag.lag for lag in lags)


def check_copied_once(log: EmbeddedLog) -> None:
    for number in range(PARTITIONS):
        assert values(log, "out", number) == values(log, "in", number)


def feed(log: EmbeddedLog, count: int) -> None:
    producer = log.producer()
    for number in range(PARTITIONS):
        for start in range(0, count, 10):
            chunk = [f"{number}:{each}".encode() for each in range(start, start + 10)]
            producer.append(TopicPartition("in", number), Records(values=chunk, times_ms=np.arange(10)))
    producer.close()


def test_many_at_once(log: EmbeddedLog, start: Callable[..., Process]) -> None:
    copiers = [start("copy", f"copier-{number}", 10) for number in range(2)]
    producers = [start("produce", f"producer-{number}", 400, PARTITIONS) for number in range(3)]
    for producer in producers:
        line(producer, "done")
    until(lambda: all_copied(log))
    check_copied_once(log)
    for number in range(PARTITIONS):
        found = values(log, "in", number)
        assert len(found) == 300
        for name in range(3):
            own = [int(value.split(":")[1]) for value in found if value.startswith(f"producer-{name}:")]
            assert own == sorted(own)
    assert len(log.admin.members("copiers")) == len(copiers)
    assert all(len(member.partitions) == 2 for member in log.admin.members("copiers"))


def test_a_producer_killed_in_mid_work_has_lost_nothing_durable(
    log: EmbeddedLog, start: Callable[..., Process]
) -> None:
    producer = start("produce", "p", 100_000, PARTITIONS)
    line(producer, "durable 200")
    producer.kill()
    assert producer.stdout is not None
    durable = max([200, *(int(each.split()[1]) for each in producer.stdout if each.startswith("durable"))])
    found = [values(log, "in", number) for number in range(PARTITIONS)]
    for number, each in enumerate(found):
        assert each == [f"p:{number + PARTITIONS * turn}" for turn in range(len(each))]
        assert len(each) * PARTITIONS >= durable
    assert log.producer().append(TopicPartition("in", 0), records("more")).result(10) == len(found[0])


def records(*texts: str) -> Records:
    return Records(values=[text.encode() for text in texts], times_ms=np.zeros(len(texts), dtype=np.int64))


def test_consumers_killed_again_and_again_copy_all_once(
    log: EmbeddedLog, start: Callable[..., Process]
) -> None:
    """Their leases would be long: that they are dead is seen at once."""
    feed(log, 6000)
    for number in range(5):
        copier = start("copy", "copier", 300)
        line(copier, "copied")
        line(copier, "copied")
        copier.kill()
        copier.wait()
        assert not all_copied(log), f"it was too quick for this test at the {number + 1}th time"
    start("copy", "copier", 300)
    until(lambda: all_copied(log))
    check_copied_once(log)


def test_an_owner_stopped_past_its_lease_is_fenced(log: EmbeddedLog, start: Callable[..., Process]) -> None:
    feed(log, 50)
    slow = start("polled-and-slow", 0.5)
    line(slow, "polled")
    slow.send_signal(signal.SIGSTOP)
    start("copy", "copier", 0.5)
    until(lambda: all_copied(log))
    slow.send_signal(signal.SIGCONT)
    assert slow.stdin is not None
    slow.stdin.write("\n")
    line(slow, "fenced")
    assert line(slow, "assigned").split()[:2] == ["assigned", "lost"]
    check_copied_once(log)


def test_a_write_behind_a_process_that_keeps_the_lock_fails_in_time(
    log: EmbeddedLog, start: Callable[..., Process], tmp_path: Path
) -> None:
    with EmbeddedLog(tmp_path / "log", SystemClock(), LogLimits(wait_s_max=0.5)) as impatient:
        keeper = start("keep-lock")
        line(keeper, "locked")
        with EmbeddedLog(tmp_path / "log", SystemClock()) as another:
            assert len(another.admin.topics()) == 2, "it can be opened and read"
        with pytest.raises(StorageFailed, match="its turn did not come"):
            impatient.transactional("x")
        late = impatient.producer().append(TopicPartition("in", 0), records("late"))
        assert values(impatient, "in", 0) == []
        keeper.kill()
        assert late.result(10) == 0
