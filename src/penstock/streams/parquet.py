"""Parquet files in a folder, each row in exactly one of them.

Rows are gathered, as state that the changelog has, until there are enough for a file or enough time has passed.
The file is written before the commit in the folder `_pending`, its name is part of the commit, and it is moved
to where readers find it after that. A restart moves what was committed and not moved yet, and removes the rest.
"""

import contextlib
import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec
import polars as pl

from penstock.core.errors import ConfigurationError, CorruptState, StorageFailed
from penstock.log.records import TopicPartition
from penstock.streams.operator import Moment
from penstock.streams.outputs import NOTHING, Effect, Outlet, OutputConfig, Put, visible
from penstock.streams.sinks import OutputPlace
from penstock.streams.state import replace_file

__all__ = ["PENDING", "ParquetFile", "ParquetSink"]

PENDING = "_pending"

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ParquetSink:
    """A file has at most about `rows_max` rows, and is written when its first row is `every_ms` old."""

    folder: Path
    rows_max: int = 100_000
    every_ms: int = 60_000

    def __post_init__(self) -> None:
        if self.rows_max < 1 or self.every_ms < 1:
            raise ConfigurationError(
                f"files in {self.folder} cannot have {self.rows_max} rows, or one each {self.every_ms} ms",
                hint="both are 1 or more",
            )

    @property
    def title(self) -> str:
        return str(self.folder)

    def file(self, name: str, content: pl.DataFrame | None) -> Effect:
        """A file to be written, or that was written (None)."""
        return ParquetFile(self.folder, name, content)

    def output(self, place: OutputPlace) -> OutputConfig:
        return _ParquetOutput(sink=self, prefix="-".join(map(_plain, (place.app, place.stage, place.output))))


@dataclass(frozen=True, kw_only=True)
class _ParquetOutput:
    sink: ParquetSink
    prefix: str

    def build(self, source: TopicPartition, state: bytes | None) -> Outlet:
        return _ParquetOutlet(self, source.partition, state)


class _Gathered(msgspec.Struct, array_like=True):
    """Rows that were added at a time, as an Arrow stream; or b"" where a file was made of all before."""

    now_ms: int
    rows: bytes


class _Kept(msgspec.Struct, array_like=True):
    number: int
    gathered: list[_Gathered]


_encode = msgspec.msgpack.Encoder().encode
_kept = msgspec.msgpack.Decoder(_Kept).decode
_changes = msgspec.msgpack.Decoder(list[_Gathered]).decode


class _ParquetOutlet:
    def __init__(self, config: _ParquetOutput, partition: int, state: bytes | None) -> None:
        self._sink = config.sink
        self._prefix = f"{config.prefix}-{partition:04d}-"
        self._number = 0
        self._frames: list[pl.DataFrame] = []
        self._rows = 0
        self._opened_ms = 0
        self._new: list[_Gathered] = []
        if state:
            kept = _decoded(_kept, state)
            self._number = kept.number
            for each in kept.gathered:
                self._add(each)

    def put(self, frame: pl.DataFrame, moment: Moment, idle: bool) -> Put:  # noqa: ARG002 - as outlets have it
        if frame.height:
            added = _Gathered(moment.now_ms, _written(visible(frame)))
            self._new.append(added)
            self._add(added)
        return self.tick(moment.now_ms)

    def tick(self, now_ms: int) -> Put:
        full = self._rows >= self._sink.rows_max
        if not self._frames or not (full or now_ms - self._opened_ms >= self._sink.every_ms):
            return NOTHING
        name = f"{self._prefix}{self._number:09d}.parquet"
        content = pl.concat(self._frames)
        closed = _Gathered(now_ms, b"")
        self._new.append(closed)
        self._add(closed)
        return Put(effects=(self._sink.file(name, content),))

    def take_changes(self) -> bytes:
        new, self._new = self._new, []
        return _encode(new) if new else b""

    def apply_changes(self, changes: bytes) -> None:
        for each in _decoded(_changes, changes):
            self._add(each)

    def snapshot(self) -> bytes:
        gathered = [_Gathered(self._opened_ms, _written(pl.concat(self._frames)))] if self._frames else []
        return _encode(_Kept(self._number, gathered))

    def recover(self, committed: Sequence[str]) -> None:
        pending = self._sink.folder / PENDING
        for path in sorted(pending.glob(f"{self._prefix}*")):
            if path.name in committed:
                self._sink.file(path.name, None).publish()
            else:
                with contextlib.suppress(OSError):
                    path.unlink()

    def _add(self, gathered: _Gathered) -> None:
        if not gathered.rows:
            self._frames, self._rows = [], 0
            self._number += 1
            return
        if not self._frames:
            self._opened_ms = gathered.now_ms
        frame = pl.read_ipc_stream(io.BytesIO(gathered.rows))
        self._frames.append(frame)
        self._rows += frame.height


class ParquetFile(Effect):
    """One file, from the pending ones to where readers find it."""

    def __init__(self, folder: Path, name: str, content: pl.DataFrame | None) -> None:
        self.folder = folder
        self._name = name
        self._content = content

    @property
    def name(self) -> str:
        return self._name

    def prepare(self) -> None:
        assert self._content is not None, "it is prepared with its rows"
        buffer = io.BytesIO()
        self._content.write_parquet(buffer)
        pending = self.folder / PENDING
        try:
            pending.mkdir(parents=True, exist_ok=True)
            replace_file(pending / self._name, buffer.getvalue())
        except OSError as error:
            raise StorageFailed(f"{self.folder}: no Parquet file was written: {error.strerror}") from error

    def publish(self) -> None:
        try:
            with contextlib.suppress(FileNotFoundError):
                (self.folder / PENDING / self._name).replace(self.folder / self._name)
            folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise StorageFailed(f"{self.folder}: {self._name} was not moved: {error.strerror}") from error


def _written(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_ipc_stream(buffer)
    return buffer.getvalue()


def _decoded(decode: Callable[[bytes], T], content: bytes) -> T:
    try:
        return decode(content)
    except msgspec.DecodeError as error:
        raise CorruptState(f"what was gathered for a Parquet file cannot be read: {error}") from error


def _plain(name: str) -> str:
    return "".join(each if each.isalnum() or each in "._" else "_" for each in name)
