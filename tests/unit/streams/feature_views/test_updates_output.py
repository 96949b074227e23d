import io

import msgspec
import numpy as np
import polars as pl
import pytest

from penstock.core.tensors import DataType
from penstock.features.timeline import read_timelines
from penstock.features.view import Feature, FeatureView, KeyColumn, encode_keys
from penstock.log.records import TopicPartition
from penstock.streams.feature_views import updates_output
from penstock.streams.feature_views.feature_rows import FeatureRowsConfig
from penstock.streams.feature_views.updates_output import (
    UPDATE_SCHEMA,
    UpdatesSink,
    number_of,
    of_view,
    well_formed,
)
from penstock.streams.operator import Moment
from penstock.streams.outputs import Outlet, Put
from penstock.streams.sinks import OutputPlace

VIEW = FeatureView(
    name="congestion",
    keys=(KeyColumn(name="origin", datatype=DataType.STRING),),
    features=(
        Feature(name="n", datatype=DataType.INT64, default=0),
        Feature(name="share", datatype=DataType.FP64, default=0.5),
    ),
    topic="a.congestion.features",
)
OWN = number_of(VIEW)
LATENESS_MS = 500
SCHEMA = pl.Schema({"origin": pl.String(), "n": pl.Int64()})


class Topics:
    def __init__(self) -> None:
        self.needed: dict[str, int | None] = {}

    def need(self, name: str, partitions: int | None, retention_s: float | None = None) -> int:
        self.needed[name] = partitions
        return partitions or 1


def outlet(topics: Topics | None = None, partition: int = 2) -> Outlet:
    share = (100 / pl.col("n").cast(pl.UInt8)).alias("share")
    rows = FeatureRowsConfig(view=VIEW, schema=SCHEMA, expressions=(share,))
    place = OutputPlace(app="a", stage="s", output="o", topics=topics or Topics(), partitions=4)
    sink = UpdatesSink(rows=rows, lateness_ms=LATENESS_MS)
    return sink.output(place).build(TopicPartition("departures", partition), None)


def updates(*timelines: list[tuple[int, int | None]], as_of_ms: int = 5_000) -> pl.DataFrame:
    """A timeline for each of the keys k0, k1 and so on, of times and counts."""
    rows = [
        (f"k{number}", count, begin, number, as_of_ms, 7)
        for number, timeline in enumerate(timelines)
        for begin, count in timeline
    ]
    names = ["origin", "n", "_from", "_timeline", "_time", "_offset"]
    return pl.DataFrame(rows, schema=dict(zip(names, [pl.String, *[pl.Int64] * 5], strict=True)), orient="row")


def moment(now_ms: int, watermark_ms: int = 4_000) -> Moment:
    return Moment(watermark_ms=watermark_ms, next_watermark_ms=watermark_ms, now_ms=now_ms)


def told(put: Put) -> list[pl.DataFrame]:
    assert all(append.target == TopicPartition(VIEW.topic, 2) for append in put.appends)
    frames = [
        pl.read_ipc_stream(io.BytesIO(value)) for append in put.appends for value in append.records.values
    ]
    assert all(frame.schema == pl.Schema(UPDATE_SCHEMA) for frame in frames)
    return frames


def test_the_topic_has_the_partitions_of_the_stage() -> None:
    topics = Topics()
    outlet(topics)
    assert topics.needed == {"a.congestion.features": 4}


def test_keys_are_told_with_their_timelines_as_of_the_streams_time() -> None:
    put = outlet().put(updates([(100, 4), (200, 2)], [(300, 8)]), moment(9_000), False)
    (frame,) = told(put)
    assert frame["key"].to_list() == encode_keys([["k0", "k1"]])
    assert frame["as_of"].to_list() == [5_000, 5_000]
    assert put.appends[0].records.times_ms.tolist() == [9_000]
    values = read_timelines(frame["timeline"].to_list(), VIEW.features, np.array([250, 250]))
    assert [column.tolist() for column in values.columns] == [[2, 8], [50.0, 12.5]]
    assert well_formed_rows(frame) == [True, True]


def test_a_row_on_which_an_expression_fails_is_a_dead_letter_and_not_known() -> None:
    put = outlet().put(updates([(100, 4), (200, 300)], [(300, 8)]), moment(9_000), False)
    (frame,) = told(put)
    values = read_timelines(frame["timeline"].to_list(), VIEW.features, np.array([250, 350]))
    assert [known.tolist() for known in values.known] == [[False, True], [False, True]]
    assert [(row.row, str(row.reason)) for row in put.failed] == [(1, "raised")]


def test_somebody_sees_to_it_each_second() -> None:
    out = outlet()
    assert [frame.rows() for frame in told(out.tick(1_000))] == [[(None, None, None, OWN)]]
    assert not out.tick(1_999).appends
    assert [frame.rows() for frame in told(out.put(pl.DataFrame(), moment(2_000), False))] == [
        [(None, None, 4_500, OWN)]
    ]
    assert not out.put(pl.DataFrame(), moment(2_500, 4_400), False).appends
    (frame,) = told(out.put(updates([(100, 4)]), moment(2_600, 4_400), False))
    assert frame["as_of"].to_list() == [5_000]
    assert not out.tick(3_599).appends
    # The stream's time does not go back where its watermark is behind.
    assert [frame.rows() for frame in told(out.tick(3_600))] == [[(None, None, 5_000, OWN)]]
    assert well_formed_rows(frame) == [True]


def test_a_clock_that_is_set_back_does_not_silence_it() -> None:
    out = outlet()
    out.tick(10_000_000)
    assert out.tick(5_000).appends


def test_many_timelines_make_several_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(updates_output, "RECORD_BYTES", 100)
    put = outlet().put(updates(*[[(100, 4)]] * 10), moment(9_000), False)
    frames = told(put)
    assert [frame.height for frame in frames] == [4, 3, 3]
    assert pl.concat(frames)["key"].to_list() == encode_keys([[f"k{number}" for number in range(10)]])


def well_formed_rows(frame: pl.DataFrame) -> list[bool]:
    return frame.select(well_formed(VIEW)).to_series().to_list()


def test_what_has_no_timeline_is_not_well_formed() -> None:
    rows = [
        (None, None, None), (b"k", b"0" * 64, 5), (b"k", b"0" * 63, 5), (b"k", b"", 5), (b"k", None, 5),
        (b"k", b"0" * 32, None),
    ]  # fmt: skip
    frame = pl.DataFrame([(*row, OWN) for row in rows], schema=UPDATE_SCHEMA, orient="row")
    assert well_formed_rows(frame) == [True, True, False, False, False, False]
    other = frame.with_columns(definition=pl.lit(OWN + 1))
    assert well_formed_rows(other) == [True] * 6, "what a view was before is left out, and no dead letter"
    foreign = frame.with_columns(definition=pl.lit(None, pl.Int64()))
    assert well_formed_rows(foreign) == [True, True, False, False, False, False]


def test_what_the_view_was_before_is_told_apart() -> None:
    before = msgspec.structs.replace(VIEW, definition="before")
    rows = [(None, None, 5, definition) for definition in (OWN, number_of(before), None, OWN)]
    frame = pl.DataFrame(rows, schema=UPDATE_SCHEMA, orient="row")
    assert of_view(frame, VIEW).rows() == [rows[0], rows[3]]
    assert of_view(frame, before).rows() == [rows[1]]
    own = frame[[0, 3]]
    assert of_view(own, VIEW) is own
    assert of_view(frame[:0], VIEW).height == 0
