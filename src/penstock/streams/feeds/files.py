"""Rows of Parquet files, one file after the other, each from its first row to its last."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import msgspec
import polars as pl

from penstock.core.errors import InvalidInput
from penstock.streams.feeds.reading import Chunk, known_columns
from penstock.streams.panics import PolarsPanicked, panics_as_errors

__all__ = ["FileReader", "Listing", "SourceFile"]

BUFFER_ROWS = 100_000
"""Read at a time, of which chunks are parts."""


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """`at` is what it is known by: a JSON object. `constants` are columns that all of its rows have alike."""

    at: dict[str, object]
    path: Path
    constants: Mapping[str, object] = field(default_factory=dict)


class Listing(Protocol):
    """Files in an order that stays."""

    def same(self, at: dict[str, object]) -> SourceFile:
        """Raises `InvalidInput` where it is gone, or another by now."""
        ...

    def after(self, at: dict[str, object] | None) -> SourceFile | None:
        """The next one that there is. Raises `InvalidInput`."""
        ...


class _Position(msgspec.Struct, frozen=True):
    """`rows` of the file are read, and with `done` all of them."""

    at: dict[str, object]
    rows: int
    done: bool


@dataclass
class _Buffer:
    at: dict[str, object]
    begin: int
    frame: pl.DataFrame
    total: int

    def has(self, at: dict[str, object], row: int) -> bool:
        return (
            self.at == at and self.begin <= row and (row < self.begin + self.frame.height or row >= self.total)
        )


class FileReader:
    """Keeps a part of the file at hand."""

    calls_function = False

    def __init__(self, listing: Listing, columns: Mapping[str, pl.DataType]) -> None:
        self._listing = listing
        self._columns = columns
        self._buffer: _Buffer | None = None

    def read(self, position: object, rows_max: int) -> Chunk | None:
        at, begin = None, 0
        if position is not None:
            known = _position(position)
            if not known.done:
                return self._chunk(self._listing.same(known.at), known.rows, rows_max)
            at = known.at
        file = self._listing.after(at)
        return None if file is None else self._chunk(file, begin, rows_max)

    def _chunk(self, file: SourceFile, begin: int, rows_max: int) -> Chunk:
        buffer = self._buffer
        if buffer is None or not buffer.has(file.at, begin):
            buffer = self._buffer = self._read(file, begin)
            # It may have been replaced while it was read.
            self._listing.same(file.at)
        frame = buffer.frame.slice(begin - buffer.begin, rows_max)
        end = begin + frame.height
        position = _Position(file.at, end, end >= buffer.total)
        return Chunk(frame=frame, position=msgspec.to_builtins(position))

    def _read(self, file: SourceFile, begin: int) -> _Buffer:
        try:
            with panics_as_errors():
                scan = pl.scan_parquet(file.path, glob=False)
                total = int(scan.select(pl.len()).collect().item())
                own = [name for name in scan.collect_schema().names() if name not in file.constants]
                names = known_columns([*own, *file.constants], self._columns, str(file.path))
                constants = [
                    pl.lit(value, dtype=self._columns[name]).alias(name)
                    for name, value in file.constants.items()
                    if name in names
                ]
                rows = scan.select([name for name in names if name in own]).slice(begin, BUFFER_ROWS)
                frame = rows.with_columns(constants).collect().select(names)
        except (OSError, PolarsPanicked, pl.exceptions.PolarsError) as error:
            raise InvalidInput(
                f"{file.path} cannot be read: {error}",
                hint="it has to be a whole Parquet file when it appears: write it elsewhere and move it here",
            ) from error
        return _Buffer(file.at, begin, frame, total)


def _position(position: object) -> _Position:
    try:
        return msgspec.convert(position, _Position)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"{position!r} is no position in files: {error}") from error
