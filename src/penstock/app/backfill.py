"""A view's history made of older events: where these are read, and where it is written.

Each file of a backfill is published once, under a name that is made of the view's definition and the events:
what was interrupted goes on where it was when it is done again, and what was done is not done twice.
"""

import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from penstock.app.backfilling import Backfilling
from penstock.app.features import DeclaredFeatures
from penstock.core.clock import Clock
from penstock.core.durable_files import make_folder, replace_file
from penstock.core.errors import ConfigurationError, InvalidInput, StorageFailed
from penstock.features.history import column_types
from penstock.features.history_mark import Replaced, number_of_replacement, number_of_run, put_in_place
from penstock.features.online import OnlineStore
from penstock.log.port import Log, TopicInfo
from penstock.log.records import TopicPartition
from penstock.streams.decoding.formats import decoder_of
from penstock.streams.delta import DeltaSink
from penstock.streams.deltas import delta_errors, deltalake
from penstock.streams.feeds.parquet_files import is_pattern
from penstock.streams.gathering import PENDING, Gathered
from penstock.streams.graph import Source, sources_of
from penstock.streams.parquet import ParquetSink
from penstock.streams.sinks import OutputPlace

__all__ = ["Backfilled", "backfill", "events_of_files", "events_of_topic", "history_sink"]

FILE_ROWS = 500_000
RECORDS = 10_000
"""Read from a topic at a time."""


@dataclass(frozen=True, kw_only=True)
class Backfilled:
    """What came of it: `rows` of history, of which `written` were not there before, `refused` events by reason,
    and `online`: the keys of which something is known now, and nothing was.
    """

    events: int
    rows: int
    written: int
    online: int
    refused: Mapping[str, int] = field(default_factory=dict)


def backfill(
    features: DeclaredFeatures,
    events: pl.DataFrame,
    *,
    into: ParquetSink | DeltaSink | None,
    online: OnlineStore | None,
    clock: Clock,
    replace: bool = False,
) -> Backfilled:
    """Computes the view's history of the events, appends it `into` a sink, and puts what is known in the end
    `online`, where nothing newer is. With `replace` it holds, once it is whole, in the place of all that the
    history says from the first of its events to the last, also of what the stream told.

    Raises `InvalidInput`, `ConfigurationError`, `StorageFailed`.
    """
    now_ms = int(clock.now().timestamp() * 1000)
    computing = Backfilling(features, now_ms, online=online is not None)
    ordered = computing.in_order(events)
    target = None
    if into is not None:
        run = _digest(features, ordered)
        number_of = number_of_replacement if replace else number_of_run
        computing.run = number_of(into.folder, features.view, run)
        target = _gathered(into, features, _name_of(run, computing.run, replace=replace))
    rows = written = 0
    span = _Span()
    for number, file in enumerate(_files(computing.rows(ordered))):
        rows += file.height
        span.reach(file)
        if target is not None and _write(*target, number, file):
            written += file.height
    if replace and into is not None:
        put_in_place(into.folder, span.replaced(computing.run))
    put = 0
    if online is not None:
        writer = online.writer(features.view)
        try:
            put = writer.fill(computing.known())
        finally:
            writer.close()
    return Backfilled(
        events=events.height, rows=rows, written=written, online=put, refused=dict(computing.refused)
    )


class _Span:
    """From the first of the events to the last, by what the history got of them."""

    def __init__(self) -> None:
        self._ms: list[int] = []

    def reach(self, rows: pl.DataFrame) -> None:
        times_ms = rows.get_column("event_time").dt.epoch("ms").to_numpy()
        ends = [*self._ms, int(times_ms.min()), int(times_ms.max())]
        self._ms = [min(ends), max(ends)]

    def replaced(self, run: int) -> Replaced:
        """Raises `InvalidInput` where there were none."""
        if not self._ms:
            raise InvalidInput(
                "of these events the history gets nothing, and so nothing is replaced",
                hint="see what was refused: the events' columns and times are those of the stream",
            )
        return Replaced(run=run, from_ms=self._ms[0], to_ms=self._ms[1])


def _name_of(run: str, number: int, *, replace: bool) -> str:
    """Files of a replacement are others than those of the same events that only add."""
    return f"{run}-{number}" if replace else run


def history_sink(folder: Path) -> ParquetSink | DeltaSink:
    """What is there: a Delta table, or a folder of Parquet files, to be made if need be."""
    if (folder / "_delta_log").is_dir():
        return DeltaSink(folder=folder)
    return ParquetSink(folder=folder)


def events_of_files(features: DeclaredFeatures, path: Path) -> pl.DataFrame:
    """Of a Parquet file, a folder or pattern of them, or a Delta table: the columns of the view's stream."""
    wanted = _source(features).schema.columns
    try:
        if (path / "_delta_log").is_dir():
            with delta_errors(f"table {path} cannot be read"):
                scan = pl.scan_parquet(deltalake().DeltaTable(str(path)).file_uris())
        elif path.is_dir():
            scan = pl.scan_parquet(sorted(path.glob("*.parquet")))
        elif path.is_file() or is_pattern(path):
            scan = pl.scan_parquet(path)
        else:
            raise InvalidInput(
                f"there is no file, folder or table {path}",
                hint="a topic is named by topic:NAME, or topic alone",
            )
        there = scan.collect_schema().names()
        names = [name for name in wanted if name in there]
        if not names:
            raise InvalidInput(
                f"{path} has none of the stream's columns", hint=f"its own are {', '.join(there) or 'none'}"
            )
        return scan.select(names).collect()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}") from error


def events_of_topic(features: DeclaredFeatures, log: Log, topic: str | None, now_ms: int) -> pl.DataFrame:
    """All that the log has kept of the view's stream (or of another topic, as its stream would read it)."""
    source = _source(features)
    name = topic or source.topic
    infos: list[TopicInfo] = [info for info in log.admin.topics() if info.spec.name == name]
    if not infos:
        raise InvalidInput(f"there is no topic {name!r} in the log", where=name)
    decoder = decoder_of(source.form, source.schema, ahead_ms=source.ahead_ms)
    frames = [pl.DataFrame(schema=pl.Schema(source.schema.columns))]
    for partition, (begin, end) in enumerate(zip(infos[0].begins, infos[0].ends, strict=True)):
        offset = begin
        while offset < end:
            fetched = log.admin.read(TopicPartition(name, partition), offset, records_max=RECORDS)
            if not len(fetched.records):
                break
            decoded = decoder.decode(fetched.records, fetched.offsets, now_ms)
            frames.append(decoded.frame.select(list(source.schema.columns)))
            offset = fetched.next_offset
    return pl.concat(frames)


def _source(features: DeclaredFeatures) -> Source:
    sources = list(sources_of(features.windowed.node.parent))
    if len(sources) > 1:
        raise ConfigurationError(f"features {features.name!r} come of {len(sources)} streams")
    return sources[0]


def _files(frames: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Frames of `FILE_ROWS`, and a last one."""
    gathered: list[pl.DataFrame] = []
    rows = 0
    for frame in frames:
        gathered.append(frame)
        rows += frame.height
        while rows >= FILE_ROWS:
            whole = pl.concat(gathered)
            yield whole[:FILE_ROWS]
            gathered, rows = [whole[FILE_ROWS:]], rows - FILE_ROWS
    if rows:
        yield pl.concat(gathered)


class _NoTopics:
    def need(self, name: str, partitions: int | None, retention_s: float | None = None) -> int:
        raise AssertionError(f"files need no topic {name!r} ({partitions}, {retention_s})")


def _gathered(into: ParquetSink | DeltaSink, features: DeclaredFeatures, run: str) -> tuple[Gathered, str]:
    """Where files go, and how their names begin."""
    place = OutputPlace(app="backfill", stage=features.name, output=run, topics=_NoTopics(), partitions=1)
    config = into.output(place)
    assert isinstance(config, Gathered), "sinks of files gather"
    return config, f"{config.prefix}-0000-"


def _write(config: Gathered, prefix: str, number: int, rows: pl.DataFrame) -> bool:
    """Whether it was not there before."""
    if number < config.publisher.next_number(config.folder, prefix):
        return False
    name = f"{prefix}{number:09d}.parquet"
    pending = config.folder / PENDING
    buffer = io.BytesIO()
    # A third of the time that the default takes, which is as much as all before it.
    config.publisher.arranged(config.folder, rows).write_parquet(buffer, compression="lz4")
    try:
        make_folder(pending)
        replace_file(pending / name, buffer.getvalue())
    except OSError as error:
        raise StorageFailed(f"{config.folder}: no Parquet file was written: {error.strerror}") from error
    config.publisher.publish(config.folder, name)
    return True


def _digest(features: DeclaredFeatures, events: pl.DataFrame) -> str:
    """What the history depends on: the view's definition, and the events."""
    view = features.view
    content = int(events.hash_rows().cast(pl.UInt64).sum()) if events.height else 0
    said = (view.name, view.definition, column_types(view), events.height, content)
    return hashlib.blake2b(repr(said).encode(), digest_size=8).hexdigest()
