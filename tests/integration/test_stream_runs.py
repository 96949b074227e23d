"""`penstock run` with streams beside a model: workers come and go, and nothing is lost or doubled."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import CommandLine
from running_server import running, wait_for

from penstock.core.clock import SystemClock
from penstock.log.opening import open_log
from penstock.log.port import Log
from penstock.log.records import Records, TopicPartition

MODEL = """
@app.callable("echo", signature=ps.Signature.of(inputs={"x": "FP64[-1]"}, outputs={"x": "FP64[-1]"}))
def echo(inputs):
    return inputs
"""
APP = """
import penstock as ps
import polars as pl

app = ps.App("running")
columns = {"number": pl.Int64, "at": pl.Int64}
numbers = app.stream("numbers", schema=columns, time="at", lateness="1d", partitions=2)
numbers.with_columns(double=pl.col("number") * 2).into("doubled", partitions=2)
numbers.into(ps.parquet("files", every="1s"))
"""


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    with open_log("", tmp_path / ".penstock", SystemClock()) as opened:
        yield opened


def produce(log: Log, numbers: range) -> None:
    producer = log.producer()
    for begin in range(numbers.start, numbers.stop, 20):
        values = [b'{"number": %d, "at": %d}' % (n, 1_700_000_000_000 + n) for n in range(begin, begin + 20)]
        records = Records(values=values, times_ms=np.zeros(20, dtype=np.int64))
        producer.append(TopicPartition("numbers", begin // 20 % 2), records).result()
    producer.close()


def doubled(log: Log) -> list[int]:
    found = []
    for partition in range(2):
        fetched = log.admin.read(TopicPartition("doubled", partition), 0, records_max=100_000)
        found += [json.loads(value)["double"] for value in fetched.records.values]
    return sorted(found)


def stream_workers(line: CommandLine) -> list[dict[str, Any]]:
    (instance,) = json.loads(line.inside("status", "--json").stdout)
    return [worker for worker in instance["workers"] if worker["role"] == "stream worker"]


def pids(line: CommandLine, state: str = "serving") -> set[int]:
    return {worker["pid"] for worker in stream_workers(line) if worker["state"] == state}


def test_workers_are_killed_replaced_and_drained(tmp_path: Path, log: Log) -> None:
    line = CommandLine(tmp_path)
    with running(line, APP + MODEL, "--set", "stream.workers=2") as server:
        wait_for(lambda: len(pids(line)) == 2, server)
        produce(log, range(1000))
        first = pids(line)
        os.kill(min(first), signal.SIGKILL)
        wait_for(lambda: len(pids(line) - {min(first)}) == 2, server)
        assert "stream worker" in server.log
        assert "was ended by SIGKILL; it is started anew" in server.log
        produce(log, range(1000, 2000))
        second = pids(line)
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: len(pids(line)) == 2 and not pids(line) & second, server)
        produce(log, range(2000, 3000))
        wait_for(lambda: len(doubled(log)) >= 3000, server)
        with server.client() as client:
            answer = client.post(
                "/v2/models/echo/infer",
                json={"inputs": [{"name": "x", "datatype": "FP64", "shape": [1], "data": [3]}]},
            )
        assert answer.json()["outputs"][0]["data"] == [3]
        produce(log, range(3000, 3100))
        wait_for(lambda: len(doubled(log)) >= 3100, server)
        wait_for(lambda: len(in_files(tmp_path)) >= 3100, server)
        assert server.end() == 0
    assert doubled(log) == [n * 2 for n in range(3100)]
    assert in_files(tmp_path) == list(range(3100))


def in_files(folder: Path) -> list[int]:
    import polars as pl

    files = sorted((folder / "files").glob("*.parquet"))
    return sorted(number for path in files for number in pl.read_parquet(path)["number"])


def test_an_app_of_streams_alone_runs(tmp_path: Path, log: Log) -> None:
    line = CommandLine(tmp_path)
    with running(line, APP) as server:
        wait_for(lambda: len(pids(line)) == 1, server)
        produce(log, range(100))
        wait_for(lambda: len(doubled(log)) == 100, server)
        assert line.run("status").status == 0


CRASHING = """
import ctypes

import penstock as ps
import polars as pl

app = ps.App("running")
columns = {"number": pl.Int64, "at": pl.Int64}


def crashes(frame):
    if (frame["number"] == 23).any():
        ctypes.string_at(0)  # in its own thread, as native code does
    return frame


numbers = app.stream("numbers", schema=columns, time="at", lateness="1d", partitions=2)
kept = numbers.map(crashes, schema=columns)
kept.with_columns(double=pl.col("number") * 2).into("doubled", partitions=2)
"""


def test_a_record_that_crashes_workers_is_set_aside_and_told(tmp_path: Path, log: Log) -> None:
    line = CommandLine(tmp_path)
    with running(line, CRASHING + MODEL) as server:
        wait_for(lambda: len(pids(line)) == 1, server)
        produce(log, range(100))
        wait_for(lambda: len(doubled(log)) == 99, server)
        assert doubled(log) == [n * 2 for n in range(100) if n != 23]
        wait_for(lambda: "dead letters 1, crashes 3" in line.run("status").stdout, server)
        status = line.run("status")
        assert status.status == 0
        assert "restarted 3 times, last because it" in status.stdout
        assert "was ended by SIGSEGV" in status.stdout
        assert "CAREFUL" not in status.stdout, "it is done with"
        with server.client() as client:
            metrics = client.get("/metrics").text
        assert 'penstock_stream_crashes_total{stage="numbers"} 3' in metrics
        told = "record from offset 3 condemned: crashed: Segmentation fault, in crashes (app.py, line "
        assert f"numbers/1: a worker ended with it at work; {told}" in server.log
        assert "Fatal Python error: Segmentation fault" in server.log
    listed = line.run("dlq", "list", "numbers").stdout
    assert "crashed" in listed


def test_an_app_that_cannot_work_says_where(tmp_path: Path) -> None:
    line = CommandLine(tmp_path)
    (tmp_path / "app.py").write_text(APP + 'numbers.filter(pl.col("nowhere") > 1)\n')
    said = line.fails("run", "app.py", "--port", "0")
    assert "app.py raised at line 10" in said
    assert "nowhere" in said
    assert "hint: the columns are number, at" in said


def test_a_window_that_was_changed_is_refused_by_a_reload(tmp_path: Path, log: Log) -> None:
    window = APP + 'numbers.window(key="number", over="1m").agg(n=ps.count()).into("counts")\n'
    line = CommandLine(tmp_path)
    with running(line, window) as server:
        wait_for(lambda: len(pids(line)) == 1, server)
        produce(log, range(100))
        wait_for(lambda: len(doubled(log)) == 100, server)
        before = pids(line)
        (tmp_path / "app.py").write_text(window.replace('over="1m"', 'over="2m"'))
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "the old ones stay" in server.log, server)
        assert "'window number' was changed" in server.log
        assert "every worker is new" not in server.log
        produce(log, range(100, 200))
        wait_for(lambda: len(doubled(log)) == 200, server)
        assert pids(line) == before
        assert line.run("status").status == 0


def test_a_sink_that_cannot_be_is_not_ready(tmp_path: Path) -> None:
    line = CommandLine(tmp_path)
    with running(line, APP.replace('"files"', '"/proc/none"')) as server:
        wait_for(lambda: "no rows can be written into /proc/none" in server.log, server)
        told = line.run("status")
        assert told.status == 1
        assert "STREAMS NOT READY" in told.stdout


def test_a_topic_of_another_number_of_partitions_is_told(tmp_path: Path, log: Log) -> None:
    from penstock.log.port import TopicSpec

    log.admin.ensure_topics([TopicSpec(name="numbers", partitions=3)])
    line = CommandLine(tmp_path)
    with running(line, APP) as server:
        wait_for(lambda: "topic 'numbers' has 3 partitions, and 2 are wanted" in server.log, server)
