"""`penstock status`: what is asked over sockets in a folder, and how it is shown."""

import asyncio
import socket
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from penstock.cli.status import _lines, _without_measures
from penstock.serving.statistics import (
    BreakerCounts,
    CacheCounts,
    DeploymentStatistics,
    Durations,
    LadderCounts,
    RungCounts,
)
from penstock.streams.worker_config import PartitionStatus
from penstock.supervision.messages import LoadedModel, Report
from penstock.supervision.status import InstanceStatus, StatusSocket, WorkerStatus, read_statuses

MIB = 1024 * 1024


def worker(number: int, report: Report | None = None) -> WorkerStatus:
    return WorkerStatus(
        number=number,
        state="serving",
        pid=100 + number,
        up_s=3725.0,
        restarts=0,
        failures=0,
        cause="",
        next_start_s=0.0,
        report=report,
    )


def instance(*workers: WorkerStatus, ready: bool = True) -> InstanceStatus:
    return InstanceStatus(
        pid=99,
        app="app.py",
        version="0.1",
        url="http://127.0.0.1:8080",
        grpc_port=-1,
        ready=ready,
        stopping=False,
        started_at=datetime(2013, 1, 1, tzinfo=UTC),
        workers=workers,
    )


def report() -> Report:
    late = LoadedModel(model="late", version="2", platform="xgboost", default=True, memory_bytes=MIB, pid=7)
    before = msgspec.structs.replace(late, version="1", default=False, pid=None)
    broken = LoadedModel(
        model="broken", version="1", platform="python", default=True, memory_bytes=0, fault="its process died"
    )
    return Report(
        ready=False,
        connections=3,
        resident_bytes=64 * MIB,
        models=(before, late, broken),
        problems={"late": "version 3 is not served"},
        metrics=(),
        statistics=(),
    )


def test_workers_models_and_what_is_wrong() -> None:
    looping = msgspec.structs.replace(
        worker(2),
        state="waiting",
        pid=None,
        restarts=4,
        failures=4,
        cause="was ended by SIGSEGV",
        next_start_s=3.96,
    )
    assert list(_lines(instance(worker(1, report()), looping, ready=False))) == [
        "app.py  NOT READY  http://127.0.0.1:8080  (pid 99, penstock 0.1)",
        "├─ worker 1  serving  pid 101, up 1 h 2 min  3 connections, 64 MiB",
        "│     broken:1  answers  python  0.0 MiB  FAULT: its process died",
        "│     late:2  answers  xgboost  pid 7  1.0 MiB",
        "│     late:1  loaded  xgboost  1.0 MiB",
        "│     late: version 3 is not served",
        "└─ worker 2  waiting  next start in 4.0 s  restarted 4 times, last because it was ended by SIGSEGV",
    ]


def test_a_partition_that_stands_still_is_seen() -> None:
    stuck = PartitionStatus(
        stage="clicks", topic="clicks", partition=0, state="stuck", problem="damaged", lag=7
    )
    told = msgspec.structs.replace(
        report(), models=(), problems={"clicks/0": "damaged"}, streams=(stuck,), connections=0
    )
    streams = msgspec.structs.replace(worker(1, told), role="stream worker")
    found = instance(worker(1, msgspec.structs.replace(report(), ready=True, problems={})), streams)
    assert not found.streams_ready
    lines = list(_lines(found))
    assert lines[0].startswith("app.py  ready, STREAMS NOT READY  http://")
    assert lines[-2:] == ["      clicks/0: damaged", "      clicks/0  STUCK  lag 7, 0 rows/s"]
    gets_on = msgspec.structs.replace(told, ready=True, problems={}, streams=())
    assert instance(msgspec.structs.replace(streams, report=gets_on)).streams_ready
    assert not instance(msgspec.structs.replace(streams, report=None)).streams_ready


def test_what_cache_breaker_and_ladder_did() -> None:
    late = DeploymentStatistics(
        model="late",
        version="2",
        cache=CacheCounts(hits=Durations(6, 0.1), misses=2, joined=0, saved_s=1.26),
        breaker=BreakerCounts(states={"closed": 1, "open": 1}, opened=3, refused=9),
        ladder=LadderCounts(rungs={"model": RungCounts(answered=80), "cached": RungCounts(answered=5)}),
    )
    plain = DeploymentStatistics(model="plain", version="1")
    status = msgspec.structs.replace(instance(worker(1, report())), statistics=(late, plain))
    assert list(_lines(status))[-1] == (
        "late:2  cache 75.0% of 8 hit, 1.3 s saved  breaker closed in 1, open in 1  "
        "answered by model 80, cached 5, none 0"
    )
    told = _without_measures(status)
    assert told["statistics"] == [
        {
            "model": "late",
            "version": "2",
            "cache": {"hits": 6, "misses": 2, "joined": 0, "stale": 0, "hit_ratio": 0.75, "saved_s": 1.26},
            "breaker": {"states": {"closed": 1, "open": 1}, "opened": 3, "refused": 9},
            "ladder": {
                "rungs": {"model": {"answered": 80, "passed": 0}, "cached": {"answered": 5, "passed": 0}},
                "exhausted": 0,
                "browned_out": 0,
            },
        },
        {"model": "plain", "version": "1"},
    ]
    assert "statistics" not in told["workers"][0]["report"]  # type: ignore[index]


def test_a_running_instance_is_found_also_under_a_long_path(tmp_path: Path) -> None:
    home = tmp_path / ("long" * 40)
    status = instance(worker(1, report()))

    async def life() -> list[InstanceStatus]:
        answering = StatusSocket(str(home), lambda: status)
        await answering.open()
        found = await asyncio.to_thread(read_statuses, str(home))
        await answering.close()
        return found

    assert asyncio.run(life()) == [status]
    assert not (home / "run").exists()
    assert read_statuses(str(home)) == []


def test_sockets_of_the_dead_are_removed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(folder / "1.sock"))
    assert read_statuses(str(tmp_path)) == []
    assert list(folder.iterdir()) == []


def test_one_that_is_not_understood_hides_nobody(tmp_path: Path) -> None:
    async def life() -> list[InstanceStatus]:
        folder = tmp_path / "run"
        folder.mkdir()

        async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b'{"pid": 1, "ap')
            writer.close()

        strange = await asyncio.start_unix_server(answer, str(folder / "1.sock"))
        answering = StatusSocket(str(tmp_path), instance)
        await answering.open()
        found = await asyncio.to_thread(read_statuses, str(tmp_path))
        strange.close()
        await answering.close()
        return found

    assert asyncio.run(life()) == [instance()]


def test_a_folder_that_cannot_be_made_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("in the way")

    async def life() -> None:
        answering = StatusSocket(str(tmp_path), instance)
        await answering.open()
        await answering.close()

    asyncio.run(life())


class Deaf:
    """The writer of a connection whose other end never reads."""

    def __init__(self) -> None:
        self.transport = self
        self.aborted = False

    def write(self, content: bytes) -> None: ...

    async def drain(self) -> None:
        await asyncio.Event().wait()

    def close(self) -> None: ...

    def abort(self) -> None:
        self.aborted = True


def test_one_who_never_reads_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.supervision.status.ANSWER_TIMEOUT_S", 0.0)
    deaf = Deaf()

    async def life() -> None:
        async with asyncio.timeout(10):
            await StatusSocket(str(tmp_path), instance)._answer(None, deaf)  # type: ignore[arg-type]

    asyncio.run(life())
    assert deaf.aborted


def test_a_folder_that_is_gone_does_not_keep_it_from_closing(tmp_path: Path) -> None:
    async def life() -> None:
        answering = StatusSocket(str(tmp_path), instance)
        await answering.open()
        (path,) = (tmp_path / "run").iterdir()
        path.unlink()
        (tmp_path / "run").rmdir()
        (tmp_path / "run").write_text("in the way")
        await answering.close()

    asyncio.run(life())
