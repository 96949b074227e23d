"""Apps whose functions bring down the process that they run in, and who starts it anew."""

import json
import signal
from collections.abc import Mapping

from stream_crashes import PARTITIONS, START_MS, Crashing, Event

from penstock.log.records import TopicPartition

ENDINGS = {
    "regular expression": 're.match(r"(a+)+$", "a" * 40 + "b")',
    "segmentation fault": "os.kill(os.getpid(), signal.SIGSEGV)",
    "abort": "os.abort()",
    "exit": "os._exit(1)",
    "killed": "os.kill(os.getpid(), signal.SIGKILL)",
    "polite exit": "raise SystemExit(2)",
    "in its commit": "transaction.EmbeddedTransaction.commit = lambda _: os._exit(1)",
    "interrupted": "raise KeyboardInterrupt",
}
"""The first holds the interpreter's lock for longer than the universe is old; a polite exit ends no process."""
STATUS = {
    "regular expression": -signal.SIGALRM,
    "segmentation fault": -signal.SIGSEGV,
    "abort": -signal.SIGABRT,
    "exit": 1,
    "killed": -signal.SIGKILL,
}
ENDS = {ending: 5 if ending in ("exit", "killed") else 3 for ending in STATUS}
"""How often it takes to condemn a record that is one of few: those that say nothing have to be many."""
REASONS = {ending: "hung" if ending == "regular expression" else "crashed" for ending in STATUS}

_HEAD = """
import os
import re
import signal
import time

import penstock as ps
import polars as pl
from penstock.log.embedded import transaction

app = ps.App("crashing")
endings = {ENDINGS}


def ends(frame):
    for number, ending in endings.items():
        if (frame["number"] == number).any():
            exec(ending)
    if {SLOW_S}:
        open("at work", "w").close()
        time.sleep({SLOW_S})
        os.remove("at work")
    return frame


def ends_closed(frame):
    return ends(frame).select("number", "_time", "_offset")


def delivers(frame):
    with open("delivered.txt", "a") as file:
        ends(frame)
        file.writelines(f"{number}\\n" for number in frame["number"])


columns = {"number": pl.Int64, "at": pl.Int64}
"""
RECORDS = """
events = app.stream("events", schema=columns, time="at", lateness="1h", idle=None, partitions=2)
events.map(ends, schema=columns).into("out")
"""
EXITS_ASYNC = RECORDS.replace(
    "events.map(ends,", "\n\nasync def ends_there(frame):\n    return ends(frame)\n\n\nevents.map(ends_there,"
)
SLOW = """

def holds_the_lock(frame):
    if (frame["number"] == 23).any():
        sum(range(6 * 10**7))
    return frame


""" + RECORDS.replace("events.map(ends,", "events.map(holds_the_lock,")
"""For longer than the lease of `LEASE_LEAST_S` 0.6 would last."""
FORKING = """

def forks(frame):
    child = os.fork()
    if child == 0:
        os.kill(os.getpid(), signal.SIGSEGV)
    os.waitpid(child, 0)
    time.sleep(1)
    return frame


""" + RECORDS.replace("events.map(ends,", "events.map(forks,")
CLOSED = """
events = app.stream("events", schema=columns, time="at", key="number", idle="500ms", partitions=2)
windows = events.window(key="number", over="1s").agg(count=ps.count())
windows.closed.map(ends_closed, schema={"number": pl.Int64}).into("out")
"""
"""The windows close when no more events come: no record makes them."""
BESIDE = """
events = app.stream("events", schema=columns, time="at", key="number", idle=None, partitions=2)
events.map(ends, schema=columns).into("out")
windows = events.window(key="number", over="1ms").agg(count=ps.count())
windows.closed.map(lambda frame: frame.select("number", "_time", "_offset")).into("closed")
"""
"""Whenever records are at work, windows are, too."""
DELIVERED = CLOSED.replace(
    'windows.closed.map(ends_closed, schema={"number": pl.Int64}).into("out")',
    'windows.closed.into(ps.call(delivers))\nwindows.closed.into("out")',
)


def app_of(text: str, endings: Mapping[int, str], slow_s: float = 0.0) -> str:
    """In which the functions end so on these numbers."""
    code = {number: ENDINGS[ending] for number, ending in endings.items()}
    return _HEAD.replace("{ENDINGS}", repr(code)).replace("{SLOW_S}", repr(slow_s)) + text


def events(count: int) -> list[Event]:
    return [Event(n, n % PARTITIONS, f"key {n}", "g", START_MS + n, n) for n in range(count)]


def numbers(crashing: Crashing, topic: str) -> list[int]:
    """What is in the topic, in its order."""
    return [int(str(row["number"])) for rows in crashing.rows(topic).values() for row in rows]


def letters(crashing: Crashing) -> dict[int, tuple[str, str]]:
    """The reasons and details of the dead letters, by their numbers."""
    found: dict[int, tuple[str, str]] = {}
    (end,) = crashing.ends()["events.dead"]
    fetched = crashing.log.admin.read(TopicPartition("events.dead", 0), 0, records_max=1000)
    assert fetched.records.headers is not None or not end
    for value, headers in zip(fetched.records.values, fetched.records.headers or (), strict=True):
        assert headers is not None
        number = int(json.loads(value)["number"])
        assert number not in found, "a letter each"
        found[number] = (headers["penstock-reason"].decode(), headers["penstock-detail"].decode())
    return found


def run_to_the_end(crashing: Crashing, count: int, ends_max: int = 20) -> list[int | None]:
    """Starts worker after worker until so many rows and letters have come out; the statuses of those that
    ended before.
    """

    def done() -> bool:
        return len(numbers(crashing, "out")) + len(letters(crashing)) >= count

    statuses: list[int | None] = []
    while not done():
        assert len(statuses) < ends_max, f"{statuses} {crashing.told()}"
        worker = crashing.start()
        crashing.wait_for(lambda worker=worker: done() or worker.poll() is not None)  # type: ignore[misc]
        if worker.poll() is not None:
            statuses.append(worker.poll())
    return statuses


def core_dumps_off() -> None:
    """For the processes that are started from now on."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
