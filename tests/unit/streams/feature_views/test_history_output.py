from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest

from penstock.core.errors import ConfigurationError, CorruptState, StorageFailed
from penstock.core.tensors import DataType
from penstock.features.history import history_schema
from penstock.features.timeline import TimelineRows, write_timelines
from penstock.features.view import Feature, FeatureView, KeyColumn, encode_keys
from penstock.log.records import TopicPartition
from penstock.streams.delta import DeltaSink
from penstock.streams.feature_views.history_output import HistorySink
from penstock.streams.feature_views.updates_output import UPDATE_SCHEMA, number_of
from penstock.streams.operator import OFFSET, TIME, Moment
from penstock.streams.outputs import Outlet, Put
from penstock.streams.parquet import ParquetSink
from penstock.streams.sinks import OutputPlace

VIEW = FeatureView(
    name="congestion",
    keys=(KeyColumn(name="origin", datatype=DataType.STRING),),
    features=(Feature(name="n", datatype=DataType.INT64, default=0),),
    topic="a.congestion.features",
)


def outlet(sink: ParquetSink | DeltaSink, state: bytes | None = None, view: FeatureView = VIEW) -> Outlet:
    place = OutputPlace(app="a", stage="s", output="o", topics=None, partitions=4)  # type: ignore[arg-type]
    history = HistorySink(view=view, sink=sink)
    assert history.folder == sink.folder
    return history.output(place).build(TopicPartition(VIEW.topic, 3), state)


def rows(
    *updates: tuple[str | None, list[tuple[int, int]], int, int, int], view: FeatureView = VIEW
) -> pl.DataFrame:
    """Keys, timelines of times and counts, the stream's time, the record's time and offset."""
    made = []
    definition = number_of(view)
    for key, timeline, as_of_ms, time_ms, offset in updates:
        if key is None:
            made.append((None, None, as_of_ms, definition, time_ms, offset))
            continue
        begins, counts = (np.array(column) for column in zip(*timeline, strict=True))
        written = write_timelines(TimelineRows(begins, [counts], [counts >= 0], np.array([len(timeline)])))
        made.append((*encode_keys([[key]]), *written, as_of_ms, definition, time_ms, offset))
    return pl.DataFrame(made, schema={**UPDATE_SCHEMA, TIME: pl.Int64(), OFFSET: pl.Int64()}, orient="row")


def done(put: Put) -> None:
    for effect in put.effects:
        effect.prepare()
        effect.publish()


def at(now_ms: int) -> Moment:
    return Moment(watermark_ms=0, next_watermark_ms=0, now_ms=now_ms)


@pytest.mark.parametrize("kind", [ParquetSink, DeltaSink])
def test_each_row_of_each_timeline_is_appended_once(kind: type, tmp_path: Path) -> None:
    sink = kind(folder=tmp_path / "history", every_ms=1000)
    out = outlet(sink)
    first = rows(("JFK", [(5, 3), (9, -1)], 7, 100, 41), (None, [], 8, 110, 42), ("EWR", [(6, 1)], 8, 120, 43))
    assert not out.put(first, at(1000), False).effects
    changes = out.take_changes()
    # Brought back in between, as after a crash.
    out = outlet(sink)
    out.apply_changes(changes)
    out = outlet(sink, out.snapshot())
    done(out.put(rows(("JFK", [(8, 4)], 9, 130, 44)), at(1500), False))
    assert not (tmp_path / "history").exists()
    done(out.put(rows((None, [], 9, 140, 45)), at(2000), False))
    history = (
        pl.read_delta(str(sink.folder)) if kind is DeltaSink else pl.read_parquet(sink.folder / "*.parquet")
    )
    assert history.columns == list(history_schema(VIEW))
    times = pl.col("event_time", "available_at", "valid_from").dt.epoch("ms")
    assert history.with_columns(times).sort("offset", "valid_from").rows() == [
        ("JFK", 7, 100, 3, 41, 5, 3),
        ("JFK", 7, 100, 3, 41, 9, None),
        ("EWR", 8, 120, 3, 43, 6, 1),
        ("JFK", 9, 130, 3, 44, 8, 4),
    ]


def test_what_is_due_is_written_by_time_alone(tmp_path: Path) -> None:
    out = outlet(ParquetSink(folder=tmp_path / "history", every_ms=1000))
    out.put(rows(("JFK", [(5, 3)], 7, 100, 41)), at(0), False)
    done(out.tick(1000))
    assert pl.read_parquet(tmp_path / "history" / "*.parquet")["n"].to_list() == [3]
    out.recover(())
    assert out.calls_function is False


def test_a_folder_is_of_the_view_whose_files_are_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "history"
    sink = ParquetSink(folder=folder, every_ms=1000)
    other = HistorySink(view=msgspec.structs.replace(VIEW, definition="another"), sink=sink)
    place = OutputPlace(app="a", stage="s", output="o", topics=None, partitions=4)  # type: ignore[arg-type]
    history = outlet(sink)
    started = other.output(place).build(TopicPartition(VIEW.topic, 3), None)
    frame = rows(("JFK", [(0, 1)], 5, 6, 7))
    done(history.put(frame, at(0), False))
    other.output(place)

    done(history.tick(2000))

    with pytest.raises(ConfigurationError, match="as it was defined otherwise"):
        other.output(place)
    started.put(rows(("JFK", [(0, 1)], 5, 6, 7), view=other.view), at(0), False)
    with pytest.raises(StorageFailed, match="as it was defined otherwise"):
        done(started.tick(2000))
    assert len(list(folder.glob("*.parquet"))) == 1


@pytest.mark.parametrize("kind", [ParquetSink, DeltaSink])
def test_what_an_older_definition_said_is_in_no_history_of_the_new_one(kind: type, tmp_path: Path) -> None:
    """Neither what is unread in the topic, nor what was gathered for the old folder and not written yet."""
    before = msgspec.structs.replace(VIEW, definition="before")
    old = outlet(kind(folder=tmp_path / "old", every_ms=1000), view=before)
    old.put(rows(("JFK", [(5, 3)], 7, 100, 41), view=before), at(0), False)
    snapshot, changes = old.snapshot(), old.take_changes()
    sink = kind(folder=tmp_path / "new", every_ms=1000)
    for state, told in ((snapshot, b""), (None, changes)):
        out = outlet(sink, state)
        out.apply_changes(told)
        assert not out.tick(5000).effects
    out.put(rows(("JFK", [(6, 8)], 8, 110, 42), view=before), at(0), False)
    out.put(rows(("EWR", [(6, 4)], 8, 120, 43)), at(0), False)
    done(out.tick(1000))
    history = (
        pl.read_delta(str(sink.folder)) if kind is DeltaSink else pl.read_parquet(sink.folder / "*.parquet")
    )
    assert history.select("origin", "n", "offset").rows() == [("EWR", 4, 43)]
    assert not (tmp_path / "old").exists()


def test_a_damaged_state_is_told(tmp_path: Path) -> None:
    with pytest.raises(CorruptState, match="for a history"):
        outlet(ParquetSink(folder=tmp_path), b"damaged")
