"""Rows gathered, as state that the changelog has, until there are enough for a file or enough time has passed.

The file is written before the commit in the folder `_pending`, its name is part of the commit, and it is
published after that. A restart publishes what was committed and not published yet, and removes the rest.
"""

import contextlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec
import polars as pl

from penstock.core.durable_files import make_folder, replace_file
from penstock.core.durations import shown_ms
from penstock.core.errors import ConfigurationError, CorruptState, StorageFailed
from penstock.log.records import TopicPartition
from penstock.streams.operator import Moment
from penstock.streams.outputs import NOTHING, Effect, Outlet, Put, visible
from penstock.streams.sinks import OutputPlace

__all__ = ["PENDING", "FolderSink", "Gathered", "Publisher"]

PENDING = "_pending"

T = TypeVar("T")


class Publisher(Protocol):
    """What becomes of a file that was written and committed. Raises `StorageFailed`."""

    def arranged(self, folder: Path, frame: pl.DataFrame) -> pl.DataFrame:
        """The rows as they can be published. Raises `StorageFailed` where that cannot be."""
        ...

    def publish(self, folder: Path, name: str) -> None:
        """`folder / "_pending" / name` is there, or was published before; it is not there afterwards."""
        ...

    def next_number(self, folder: Path, prefix: str) -> int:
        """The least number that no file was published under yet."""
        ...


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """A file has at most about `rows_max` rows, and is written when its first row is `every_ms` old."""

    folder: Path
    rows_max: int
    every_ms: int
    prefix: str
    publisher: Publisher

    def __post_init__(self) -> None:
        if self.rows_max < 1 or self.every_ms < 1:
            raise ConfigurationError(
                f"files in {self.folder} cannot have {self.rows_max} rows or {shown_ms(self.every_ms)} each",
                hint="both are 1 or more",
            )

    def build(self, source: TopicPartition, state: bytes | None) -> Outlet:
        return _GatheringOutlet(self, source.partition, state)


@dataclass(frozen=True, kw_only=True)
class FolderSink:
    """What an app file names: a folder, for whose files rows are gathered as `Gathered` says.

    As a source only the folder matters.
    """

    folder: Path
    rows_max: int = 100_000
    every_ms: int = 60_000

    @property
    def title(self) -> str:
        return str(self.folder)

    def gathered(self, place: OutputPlace, publisher: Publisher) -> Gathered:
        """Raises `ConfigurationError` where files cannot be so."""
        return Gathered(
            folder=self.folder,
            rows_max=self.rows_max,
            every_ms=self.every_ms,
            prefix="-".join(map(_plain, (place.app, place.stage, place.output))),
            publisher=publisher,
        )


class _Added(msgspec.Struct, array_like=True):
    """Rows that were added at a time, as an Arrow stream; or b"" where a file was made of all before."""

    now_ms: int
    rows: bytes


class _Kept(msgspec.Struct, array_like=True):
    number: int
    gathered: list[_Added]


_encode = msgspec.msgpack.Encoder().encode
_kept = msgspec.msgpack.Decoder(_Kept).decode
_changes = msgspec.msgpack.Decoder(list[_Added]).decode


class _GatheringOutlet:
    calls_function = False

    def __init__(self, config: Gathered, partition: int, state: bytes | None) -> None:
        self._config = config
        self._prefix = f"{config.prefix}-{partition:04d}-"
        self._number = 0
        self._frames: list[pl.DataFrame] = []
        self._rows = 0
        self._opened_ms = 0
        self._new: list[_Added] = []
        if state:
            kept = _decoded(_kept, state)
            self._number = kept.number
            for each in kept.gathered:
                self._add(each)

    def put(self, frame: pl.DataFrame, moment: Moment, idle: bool) -> Put:  # noqa: ARG002 - as outlets have it
        if frame.height:
            added = _Added(moment.now_ms, _written(visible(frame)))
            self._new.append(added)
            self._add(added)
        return self.tick(moment.now_ms)

    def tick(self, now_ms: int) -> Put:
        full = self._rows >= self._config.rows_max
        if not self._frames or not (full or now_ms - self._opened_ms >= self._config.every_ms):
            return NOTHING
        name = f"{self._prefix}{self._number:09d}.parquet"
        content = pl.concat(self._frames)
        closed = _Added(now_ms, b"")
        self._new.append(closed)
        self._add(closed)
        return Put(effects=(_File(self._config, name, content),))

    def take_changes(self) -> bytes:
        new, self._new = self._new, []
        return _encode(new) if new else b""

    def apply_changes(self, changes: bytes) -> None:
        for each in _decoded(_changes, changes):
            self._add(each)

    def snapshot(self) -> bytes:
        gathered = [_Added(self._opened_ms, _written(pl.concat(self._frames)))] if self._frames else []
        return _encode(_Kept(self._number, gathered))

    def recover(self, committed: Sequence[str]) -> None:
        config = self._config
        pending = config.folder / PENDING
        for path in sorted(pending.glob(f"{self._prefix}*")):
            if path.name in committed:
                config.publisher.publish(config.folder, path.name)
            else:
                with contextlib.suppress(OSError):
                    path.unlink()
        # State that was begun anew has begun to count anew.
        self._number = max(self._number, config.publisher.next_number(config.folder, self._prefix))

    def _add(self, gathered: _Added) -> None:
        if not gathered.rows:
            self._frames, self._rows = [], 0
            self._number += 1
            return
        if not self._frames:
            self._opened_ms = gathered.now_ms
        frame = pl.read_ipc_stream(io.BytesIO(gathered.rows))
        self._frames.append(frame)
        self._rows += frame.height


class _File(Effect):
    def __init__(self, config: Gathered, name: str, content: pl.DataFrame) -> None:
        self._config = config
        self._name = name
        self._content = content

    @property
    def name(self) -> str:
        return self._name

    def prepare(self) -> None:
        folder = self._config.folder
        buffer = io.BytesIO()
        self._config.publisher.arranged(folder, self._content).write_parquet(buffer)
        pending = folder / PENDING
        try:
            make_folder(pending)
            replace_file(pending / self._name, buffer.getvalue())
        except OSError as error:
            raise StorageFailed(f"{folder}: no Parquet file was written: {error.strerror}") from error

    def publish(self) -> None:
        self._config.publisher.publish(self._config.folder, self._name)


def _written(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_ipc_stream(buffer)
    return buffer.getvalue()


def _decoded(decode: Callable[[bytes], T], content: bytes) -> T:
    try:
        return decode(content)
    except msgspec.DecodeError as error:
        raise CorruptState(f"what was gathered for a file cannot be read: {error}") from error


def _plain(name: str) -> str:
    return "".join(each if each.isalnum() or each in "._" else "_" for each in name)
