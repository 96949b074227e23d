"""Parquet files in a folder, each row in exactly one of them; read as well as written.

A file that was gathered and committed is moved to where readers find it.
"""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from penstock.core.durable_files import sync_folder
from penstock.core.errors import ConfigurationError, StorageFailed
from penstock.streams.feeds.files import FileReader
from penstock.streams.feeds.parquet_files import ParquetFiles, is_pattern
from penstock.streams.feeds.reading import Reader
from penstock.streams.gathering import PENDING, FolderSink
from penstock.streams.outputs import OutputConfig
from penstock.streams.sinks import OutputPlace

__all__ = ["ParquetSink"]


@dataclass(frozen=True, kw_only=True)
class ParquetSink(FolderSink):
    """As a source, `folder` may be a pattern."""

    def output(self, place: OutputPlace) -> OutputConfig:
        if is_pattern(self.folder):
            raise ConfigurationError(f"{self.folder} is a pattern", hint="write into a folder")
        return self.gathered(place, _Moved())

    def reader(self, columns: Mapping[str, pl.DataType]) -> Reader:
        return FileReader(ParquetFiles(self.folder), columns)


class _Moved:
    def arranged(self, folder: Path, frame: pl.DataFrame) -> pl.DataFrame:  # noqa: ARG002 - any will do
        return frame

    def publish(self, folder: Path, name: str) -> None:
        try:
            with contextlib.suppress(FileNotFoundError):
                (folder / PENDING / name).replace(folder / name)
            sync_folder(folder)
        except OSError as error:
            raise StorageFailed(f"{folder}: {name} was not moved: {error.strerror}") from error

    def next_number(self, folder: Path, prefix: str) -> int:
        numbers = [path.stem.removeprefix(prefix) for path in folder.glob(f"{prefix}*.parquet")]
        return max((int(number) for number in numbers if number.isdecimal()), default=-1) + 1
