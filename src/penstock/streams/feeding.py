"""History into a topic: the rows of Parquet files as events, each once, however often it is begun.

How far a file has come is a record of a topic of its own, in the same transaction as the events.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import polars as pl

from penstock.core.errors import InvalidInput, NotFound
from penstock.log.port import Log, TopicSpec
from penstock.log.records import Records, TopicPartition
from penstock.streams.encoding import encoder_of
from penstock.streams.graph import Source
from penstock.streams.partition_frames import split_by_key

__all__ = ["Feeder"]

ROWS_AT_ONCE = 20_000
READ_RECORDS_MAX = 10_000


class _Progress(msgspec.Struct, frozen=True):
    file: str
    rows: int


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Progress).decode


@dataclass(frozen=True)
class _File:
    """`name` tells it from others, and from itself with other rows."""

    path: Path
    name: str
    rows: int


class Feeder:
    """Of one stream. Another one of the same stream, begun later, fences this one."""

    def __init__(self, log: Log, app: str, source: Source, now_ms: Callable[[], int]) -> None:
        self._log = log
        self._source = source
        self._now_ms = now_ms
        progress = f"{app}.{source.name}.fed"
        log.admin.ensure_topics(
            [
                TopicSpec(name=source.topic, partitions=self._partitions(), retention_s=source.retention_s),
                TopicSpec(name=progress),
            ]
        )
        self._progress = TopicPartition(progress, 0)
        self._producer = log.transactional(progress)
        self._done = self._read_progress()

    def feed(self, path: Path) -> int:
        """Appends the rows of a file that are not in the topic yet; how many there were.

        Raises `NotFound` and `InvalidInput` for a file that cannot be read, or has not the stream's columns;
        `Fenced` where another feeder has begun.
        """
        file = self._opened(path)
        begun = self._done.get(file.name, 0)
        for first in range(begun, file.rows, ROWS_AT_ONCE):
            frame = pl.scan_parquet(path).slice(first, ROWS_AT_ONCE).collect()
            self._append(frame, _Progress(file.name, first + frame.height))
        return file.rows - begun

    def close(self) -> None:
        self._producer.close()

    def _append(self, frame: pl.DataFrame, progress: _Progress) -> None:
        source = self._source
        rows = frame.select(list(source.schema.columns))
        times_ms = self._now_ms()
        transaction = self._producer.begin()
        for partition, some, keys in split_by_key(rows, source.key, self._partitions()):
            values = encoder_of(source.form).encode(some)
            one_each = len(values) == some.height
            records = Records(
                values=values,
                times_ms=np.full(len(values), times_ms, dtype=np.int64),
                keys=keys if one_each else None,
            )
            transaction.append(TopicPartition(source.topic, partition), records)
        told = Records(values=[_encode(progress)], times_ms=np.array([times_ms], dtype=np.int64))
        transaction.append(self._progress, told)
        transaction.commit()
        self._done[progress.file] = progress.rows

    def _opened(self, path: Path) -> _File:
        try:
            size = path.stat().st_size
            scan = pl.scan_parquet(path)
            columns = scan.collect_schema()
            rows = int(scan.select(pl.len()).collect().item())
        except FileNotFoundError:
            raise NotFound(f"{path}: no such file") from None
        except (OSError, pl.exceptions.PolarsError) as error:
            raise InvalidInput(f"{path} cannot be read as Parquet: {error}", where=str(path)) from error
        missing = [name for name in self._source.schema.columns if name not in columns]
        if missing:
            raise InvalidInput(
                f"{path} has no column {missing[0]!r}, which stream {self._source.name!r} has",
                where=str(path),
                hint=f"its columns are {', '.join(columns)}",
            )
        return _File(path, f"{path.resolve()} {size}", rows)

    def _partitions(self) -> int:
        there = {info.spec.name: info.spec.partitions for info in self._log.admin.topics()}
        return there.get(self._source.topic) or self._source.partitions or 1

    def _read_progress(self) -> dict[str, int]:
        done: dict[str, int] = {}
        offset = 0
        while True:
            fetched = self._log.admin.read(self._progress, offset, records_max=READ_RECORDS_MAX)
            if not len(fetched.records):
                return done
            for value in fetched.records.values:
                progress = _decode(value)
                done[progress.file] = progress.rows
            offset = fetched.next_offset
