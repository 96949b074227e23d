"""The log on a full disk, past a limit on the size of files, and with damaged files."""

import resource
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest

from penstock.core.clock import SystemClock
from penstock.core.errors import ConfigurationError, CorruptRecords, StorageFailed
from penstock.log.embedded import EmbeddedLog
from penstock.log.port import TopicSpec
from penstock.log.records import Records, TopicPartition

EVENTS, OTHER = TopicPartition("events", 0), TopicPartition("events", 1)
APPENDS_MAX = 2000
RNG = np.random.default_rng(5)


def opened(folder: Path) -> EmbeddedLog:
    log = EmbeddedLog(folder, SystemClock())
    log.admin.ensure_topics([TopicSpec(name="events", partitions=2)])
    return log


def records(count: int = 10, size_bytes: int = 2000) -> Records:
    """What cannot be compressed."""
    return Records(values=[RNG.bytes(size_bytes) for _ in range(count)], times_ms=np.arange(count))


def append_until_refused(log: EmbeddedLog) -> tuple[list[Records], StorageFailed]:
    producer, kept = log.producer(), []
    for _ in range(APPENDS_MAX):
        given = records()
        try:
            offset = producer.append(EVENTS, given).result(30)
        except StorageFailed as error:
            return kept, error
        assert offset == 10 * len(kept)
        kept.append(given)
    raise AssertionError("the disk never filled up")


def check_whole(log: EmbeddedLog, kept: list[Records]) -> None:
    read = log.admin.read(EVENTS, 0, records_max=1_000_000)
    assert list(read.records.values) == [value for each in kept for value in each.values]
    assert log.admin.topics()[0].ends[0] == 10 * len(kept)


@contextmanager
def file_size_limit(limit_bytes: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    mount = shutil.which("mount")
    disk = tmp_path / "disk"
    disk.mkdir()
    command = [mount or "mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    if mount is None or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("no small disk can be mounted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_past_a_limit_nothing_is_half_written_and_reads_go_on(tmp_path: Path) -> None:
    with opened(tmp_path) as log:
        with file_size_limit(1_000_000):
            kept, error = append_until_refused(log)
            assert error.hint is not None
            check_whole(log, kept)
        assert len(kept) > 5
        kept.append(records())
        assert log.producer().append(EVENTS, kept[-1]).result(10) == 10 * (len(kept) - 1)
        check_whole(log, kept)


def test_a_full_disk_refuses_writes_and_serves_reads(small_disk: Path) -> None:
    with opened(small_disk / "log") as log:
        ballast = small_disk / "ballast"
        ballast.write_bytes(b"x" * 700_000)

        class Told:
            def assigned(self, partitions: object) -> None: ...

            revoked = lost = assigned

        consumer = log.consumer("group")
        consumer.subscribe(["events"], Told())
        kept, error = append_until_refused(log)
        assert "disk" in (error.hint or "")
        check_whole(log, kept)
        polled: list[bytes] = []
        while fetched := consumer.poll(records_max=7, bytes_max=100_000, timeout_s=0):
            polled += [value for each in fetched for value in each.records.values]
        assert polled == [value for each in kept for value in each.values]
        ballast.unlink()
        kept.append(records())
        assert log.producer().append(EVENTS, kept[-1]).result(10) == 10 * (len(kept) - 1)
        check_whole(log, kept)
        consumer.close()


def flip_a_bit(folder: Path, value: bytes) -> None:
    """Within the file's copy of a value."""
    path = folder / "log.db"
    content = bytearray(path.read_bytes())
    at = content.index(value)
    content[at + len(value) // 2] ^= 4
    path.write_bytes(content)


def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    given = [records(count=1, size_bytes=300) for _ in range(3)]
    with opened(tmp_path) as log:
        for each in given:
            log.producer().append(EVENTS, each).result(10)
        log.producer().append(OTHER, given[0]).result(10)
    flip_a_bit(tmp_path, given[1].values[0])
    with opened(tmp_path) as log:
        with pytest.raises(CorruptRecords, match="events/0 is damaged at offset 1") as caught:
            log.admin.read(EVENTS, 1, records_max=1)
        assert (caught.value.where, caught.value.offset) == ("events/0", 1)
        assert "penstock log replay" in str(caught.value.hint)
        assert len(log.admin.read(EVENTS, 0, records_max=9).records) == 1
        check_others_go_on(log)


def check_others_go_on(log: EmbeddedLog) -> None:
    class Told:
        def assigned(self, partitions: object) -> None: ...

        revoked = lost = assigned

    consumer = log.consumer("group")
    consumer.subscribe(["events"], Told())
    offsets: dict[TopicPartition, list[int]] = {EVENTS: [], OTHER: []}
    damaged = 0
    for _ in range(4):
        try:
            for each in consumer.poll(records_max=9, bytes_max=1 << 20, timeout_s=0):
                offsets[each.source] += each.offsets.tolist()
        except CorruptRecords:
            damaged += 1
            consumer.pause([EVENTS])
    assert damaged == 1
    assert offsets == {EVENTS: [0], OTHER: [0]}
    consumer.resume([EVENTS])
    consumer.seek(EVENTS, 2)
    (found,) = consumer.poll(records_max=9, bytes_max=1 << 20, timeout_s=0)
    assert found.offsets.tolist() == [2]
    consumer.close()


def test_a_frame_that_has_gone_or_moved_is_found(tmp_path: Path) -> None:
    with opened(tmp_path) as log:
        for _ in range(4):
            log.producer().append(EVENTS, records(count=2)).result(10)
        with closing(sqlite3.connect(tmp_path / "log.db", isolation_level=None)) as other:
            other.execute("DELETE FROM frames WHERE id & 1023 = 2")
            other.execute(
                "UPDATE frames SET body = (SELECT body FROM frames WHERE id & 1023 = 0) WHERE id & 1023 = 4"
            )
        with pytest.raises(CorruptRecords, match="offset 2: records are missing"):
            log.admin.read(EVENTS, 2, records_max=1)
        with pytest.raises(CorruptRecords, match="offset 4: its checksum"):
            log.admin.read(EVENTS, 4, records_max=1)


def test_a_damaged_or_foreign_file_is_refused(tmp_path: Path) -> None:
    garbage = tmp_path / "garbage"
    garbage.mkdir()
    (garbage / "log.db").write_bytes(b"not a database, but long enough to look like one" * 100)
    with pytest.raises(StorageFailed, match="could not be opened"):
        EmbeddedLog(garbage, SystemClock())
    other = tmp_path / "other"
    other.mkdir()
    with closing(sqlite3.connect(other / "log.db")) as connection:
        connection.execute("CREATE TABLE mine (a)")
    with pytest.raises(ConfigurationError, match="no log of Penstock"):
        EmbeddedLog(other, SystemClock())
    newer = tmp_path / "newer"
    opened(newer).close()
    with closing(sqlite3.connect(newer / "log.db")) as connection:
        connection.execute("PRAGMA user_version=99")
    with pytest.raises(ConfigurationError, match="newer Penstock"):
        EmbeddedLog(newer, SystemClock())


def test_a_torn_file_is_a_clear_error(tmp_path: Path) -> None:
    with opened(tmp_path) as log:
        for _ in range(30):
            log.producer().append(EVENTS, records()).result(10)
    path = tmp_path / "log.db"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises((StorageFailed, CorruptRecords)) as caught, opened(tmp_path) as log:
        log.admin.read(EVENTS, 0, records_max=100_000)
    assert caught.value.hint


def test_a_log_in_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageFailed, match="cannot be made"):
        EmbeddedLog(tmp_path / "file" / "log", SystemClock())
