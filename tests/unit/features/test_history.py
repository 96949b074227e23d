from datetime import UTC, datetime

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.errors import CorruptRecords, InvalidInput
from penstock.core.tensors import DataType
from penstock.features.history import Asked, as_of_join, as_served, history_rows, history_schema
from penstock.features.timeline import TimelineRows, write_timelines
from penstock.features.view import Feature, FeatureView, KeyColumn

VIEW = FeatureView(
    name="congestion",
    keys=(KeyColumn(name="origin", datatype=DataType.STRING), KeyColumn(name="gate", datatype=DataType.INT64)),
    features=(
        Feature(name="mean", datatype=DataType.FP64, default=-0.5),
        Feature(name="count", datatype=DataType.INT64, default=7),
        Feature(name="open", datatype=DataType.BOOL, default=True),
    ),
    topic="a.congestion.features",
)
KEYS = [("JFK", 1), ("JFK", 2), (None, 1), ("EWR", None)]
ROW = st.tuples(
    st.integers(0, 60),
    st.one_of(st.none(), st.floats()),
    st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
    st.one_of(st.none(), st.booleans()),
)
UPDATE = st.tuples(
    st.sampled_from(KEYS), st.integers(0, 12), st.integers(0, 12), st.lists(ROW, min_size=1, max_size=5)
)


def update_frame(updates: list[tuple], partition: int) -> pl.DataFrame:
    """Updates of a partition in the order of their offsets."""
    timelines = []
    for _, _, _, drawn in updates:
        rows = sorted({row[0]: row for row in drawn}.values())
        columns = list(zip(*rows, strict=True))
        masks = [np.array([value is not None for value in column]) for column in columns[1:]]
        filled = [
            np.array([value if value is not None else 0 for value in column], feature.datatype.numpy)
            for column, feature in zip(columns[1:], VIEW.features, strict=True)
        ]
        lengths = np.array([len(rows)])
        timelines += write_timelines(TimelineRows(np.array(columns[0]), filled, masks, lengths))
    return pl.DataFrame(
        {
            "key": [msgspec.msgpack.encode(update[0]) for update in updates],
            "timeline": timelines,
            "event_time": [update[1] for update in updates],
            "available_at": [update[2] for update in updates],
            "offset": range(len(updates)),
        },
        schema={
            "key": pl.Binary, "timeline": pl.Binary, "event_time": pl.Int64, "available_at": pl.Int64,
            "offset": pl.Int64,
        },
    ).with_columns(partition=pl.lit(partition))  # fmt: skip


def history_of(parts: list[list[tuple]]) -> pl.DataFrame:
    frames = [history_rows(VIEW, update_frame(part, partition)) for partition, part in enumerate(parts)]
    return pl.concat([*frames, pl.DataFrame(schema=history_schema(VIEW))])


def values_of(rows: list[tuple], time: int) -> tuple:
    """One row after the other: the oracle."""
    rows = sorted({row[0]: row for row in rows}.values())
    found = rows[0]
    for row in rows:
        if row[0] <= time:
            found = row
    defaults = [feature.default for feature in VIEW.features]
    return tuple(
        default if value is None else value for value, default in zip(found[1:], defaults, strict=True)
    )


def bits(rows: list[tuple]) -> list[tuple]:
    return [
        (np.float64(mean).tobytes() if not np.isnan(mean) else "nan", count, is_open)
        for mean, count, is_open in rows
    ]


def asked_of(questions: list[tuple]) -> Asked:
    keys = pl.DataFrame(
        [key for key, *_ in questions], schema={"origin": pl.String, "gate": pl.Int64}, orient="row"
    )
    times = [np.array([question[place] for question in questions], np.int64) for place in (1, 2)]
    return Asked(keys, *times)


QUESTIONS = st.lists(
    st.tuples(st.sampled_from([*KEYS, ("LGA", 1)]), st.integers(-5, 120), st.integers(-5, 120)), max_size=12
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(UPDATE, max_size=8), max_size=3), QUESTIONS, st.sampled_from([1, 2]), st.randoms())
def test_the_last_update_until_then_and_its_last_row_that_holds_by_then(
    parts: list[list[tuple]], questions: list[tuple], by: int, shuffling: object
) -> None:
    """Whatever comes late, at the same time, or not at all; in whichever order the history lies there."""
    history = history_of(parts)
    order = list(range(history.height))
    shuffling.shuffle(order)
    column = {1: "event_time", 2: "available_at"}[by]

    joined = as_of_join(VIEW, history[order], asked_of(questions), column)

    expected = []
    for key, time, until in questions:
        best = None
        for partition, part in enumerate(parts):
            for offset, update in enumerate(part):
                place = (update[by], partition, offset)
                if update[0] == key and update[by] <= until and (best is None or place >= best[0]):
                    best = (place, update)
        expected.append((-0.5, 7, True) if best is None else values_of(best[1][3], time))
    assert bits(joined.rows()) == bits(expected)
    assert joined.schema == {name: history_schema(VIEW)[name] for name in VIEW.feature_names}


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(UPDATE, min_size=1, max_size=8), min_size=1, max_size=3), st.data())
def test_what_was_served_is_found_by_its_place(parts: list[list[tuple]], data: st.DataObject) -> None:
    partition = data.draw(st.integers(0, len(parts) - 1))
    offset = data.draw(st.integers(0, len(parts[partition]) - 1))
    update, time = parts[partition][offset], data.draw(st.integers(-5, 120))
    asked = asked_of([(update[0], time, 0), (("LGA", 1), time, 0), (update[0], time, 0)])
    places = np.array([partition, partition, partition]), np.array([offset, offset, 999])

    features, found = as_served(VIEW, history_of(parts), asked, *places)

    assert found.tolist() == [True, False, False]
    assert features.rows()[1:] == [(None, None, None)] * 2
    defaults = [pl.col(each.name).fill_null(pl.lit(each.default)) for each in VIEW.features]
    assert bits(features.with_columns(defaults).rows()[:1]) == bits([values_of(update[3], time)])


def test_of_updates_at_the_same_time_the_last_one_in_the_log_counts() -> None:
    """By partition, then by offset: a key that has moved was in the lower one before."""
    early = [(("JFK", 1), 5, 50, [(0, 1.0, 1, True)])] * 3
    history = history_of([early, [(("JFK", 1), 5, 50, [(0, 2.0, 2, False)])]])
    assert as_of_join(VIEW, history, asked_of([(("JFK", 1), 60, 60)])).rows() == [(2.0, 2, False)]


def test_a_history_without_rows_gives_defaults() -> None:
    empty = history_of([])
    asked = asked_of([(("JFK", 1), 5, 5)])
    assert as_of_join(VIEW, empty, asked).rows() == [(-0.5, 7, True)]
    features, found = as_served(VIEW, empty, asked, np.array([0]), np.array([0]))
    assert (features.rows(), found.tolist()) == ([(None, None, None)], [False])


def test_times_of_other_units_and_zones_are_the_same_times() -> None:
    history = history_of([[(("JFK", 1), 5, 50, [(10, 1.5, 1, True), (20, None, 0, False)])]])
    delta = history.with_columns(
        pl.col("event_time", "available_at", "valid_from").cast(pl.Datetime("us", "UTC"))
    )
    asked = asked_of([(("JFK", 1), 19, 50), (("JFK", 1), 20, 50), (("JFK", 1), 20, 49)])
    assert as_of_join(VIEW, delta, asked).rows() == [(1.5, 1, True), (-0.5, 0, False), (-0.5, 7, True)]
    assert history["available_at"][0] == datetime(1970, 1, 1, 0, 0, 0, 50_000, UTC)


def test_the_history_of_another_view_is_refused() -> None:
    with pytest.raises(InvalidInput, match="has no column mean") as refused:
        as_of_join(VIEW, history_of([]).drop("mean"), asked_of([]))
    assert "backfill" in refused.value.hint


def test_timelines_of_other_features_are_refused() -> None:
    updates = update_frame([(("JFK", 1), 5, 50, [(10, 1.5, 1, True)])], 0)
    with pytest.raises(CorruptRecords, match="not of its 3 features"):
        history_rows(VIEW, updates.with_columns(timeline=pl.lit(b"12345678")))
