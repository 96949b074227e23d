"""A Delta table, each row in it exactly once; read as well as written.

A file that was gathered and committed is added by one transaction of the table, which also says its number
under the name of the output's partition (Delta's application transactions): it is not added again.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from penstock.core.errors import InvalidInput, StorageFailed
from penstock.streams.deltas import delta_errors, deltalake
from penstock.streams.feeds.delta_files import DeltaFiles
from penstock.streams.feeds.files import FileReader
from penstock.streams.feeds.reading import Reader
from penstock.streams.gathering import PENDING, FolderSink
from penstock.streams.outputs import OutputConfig
from penstock.streams.sinks import OutputPlace

if TYPE_CHECKING:
    from deltalake import DeltaTable

__all__ = ["DeltaSink"]

TRIES_MAX = 5
"""Others may add to the table, or make it, at the same time."""
_SIGNED: dict[type[pl.DataType], type[pl.DataType]] = {
    pl.UInt8: pl.Int16,
    pl.UInt16: pl.Int32,
    pl.UInt32: pl.Int64,
    pl.UInt64: pl.Int64,
}


@dataclass(frozen=True, kw_only=True)
class DeltaSink(FolderSink):
    """A version of the table is what else is a file, of the rows of one partition."""

    def output(self, place: OutputPlace) -> OutputConfig:
        return self.gathered(place, _Added())

    def reader(self, columns: Mapping[str, pl.DataType]) -> Reader:
        return FileReader(DeltaFiles(self.folder), columns)


class _Added:
    def arranged(self, folder: Path, frame: pl.DataFrame) -> pl.DataFrame:
        """Delta has no unsigned integers. That the table can take the columns is seen before the commit."""
        arranged = frame.with_columns(
            pl.col(name).cast(_SIGNED[type(dtype)])
            for name, dtype in frame.schema.items()
            if type(dtype) in _SIGNED
        )
        table = _table(folder)
        if table is not None:
            _check_columns(folder, table, arranged)
        return arranged

    def publish(self, folder: Path, name: str) -> None:
        pending = folder / PENDING / name
        if not pending.exists():
            return
        frame = pl.read_parquet(pending)
        for tries in range(1, TRIES_MAX + 1):
            try:
                _add(folder, name, frame)
                break
            except InvalidInput as error:
                if tries == TRIES_MAX:
                    raise StorageFailed(error.message) from error
        try:
            pending.unlink(missing_ok=True)
        except OSError as error:
            raise StorageFailed(f"{pending} was not removed: {error.strerror}") from error

    def next_number(self, folder: Path, prefix: str) -> int:
        table = _table(folder)
        version = table.transaction_version(prefix) if table is not None else None
        return 0 if version is None else version + 1


def _table(folder: Path) -> "DeltaTable | None":
    lib = deltalake()
    try:
        with delta_errors(f"table {folder} cannot be read"):
            return lib.DeltaTable(str(folder)) if lib.DeltaTable.is_deltatable(str(folder)) else None
    except InvalidInput as error:
        raise StorageFailed(error.message) from error


def _check_columns(folder: Path, table: "DeltaTable", frame: pl.DataFrame) -> None:
    there = {each.name: str(each.type) for each in table.schema().fields}
    ours = {each.name: str(each.type) for each in deltalake().Schema.from_arrow(frame.schema).fields}
    if there != ours:
        different = sorted(dict(there.items() ^ ours.items()))
        raise StorageFailed(
            f"{folder}: the table's columns are not those of the rows: {', '.join(different)}",
            hint="write into another folder, or give the table these columns",
        )


def _add(folder: Path, name: str, frame: pl.DataFrame) -> None:
    """One version more, unless it is there. Raises `InvalidInput`."""
    lib = deltalake()
    found = re.fullmatch(r"(.*-)([0-9]+)\.parquet", name)
    assert found is not None, "files are numbered"
    prefix, number = found[1], int(found[2])
    table = _table(folder)
    known = table.transaction_version(prefix) if table is not None else None
    if known is not None and known >= number:
        return
    said = lib.CommitProperties(app_transactions=[lib.Transaction(prefix, number)])
    with delta_errors(f"{folder}: nothing was added to the table"):
        lib.write_deltalake(
            str(folder) if table is None else table, frame, mode="append", commit_properties=said
        )
