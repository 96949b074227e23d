"""Rows scored by a model: what becomes of rows it cannot take, and of all while it answers nobody."""

from collections.abc import Collection, Mapping, Sequence

import polars as pl
import pytest

from penstock.core.errors import ConfigurationError, DeadlineExceeded, InvalidInput, ModelFailed, StorageFailed
from penstock.streams.operator import OFFSET, TIME
from penstock.streams.scoring import MODEL_RUNG, MODEL_VERSION, PREDICTION_ID, Place, Score, Scores

SCHEMA = pl.Schema({"a": pl.Int64()})
FIRST = Place(topic="events", partition=3, internal=False, made=False)


class Doubling:
    """Refuses negative numbers, breaks on 13."""

    def __init__(self, well: bool | None = True) -> None:
        self.well = well
        self.frames: list[int] = []
        self.inputs: Mapping[str, str | Sequence[str]] = {}

    def score(
        self,
        model: str,
        frame: pl.DataFrame,
        inputs: Mapping[str, str | Sequence[str]],
        wanted: Collection[str],
    ) -> Scores:
        assert model == "doubling"
        assert wanted
        self.frames.append(frame.height)
        self.inputs = inputs
        if (frame["a"] < 0).any():
            raise InvalidInput("a negative number", where="a")
        if (frame["a"] == 13).any():
            raise ModelFailed("the model raised ValueError")
        if (frame["a"] == 99).any():
            raise DeadlineExceeded("it did not answer within 15 s")
        return Scores(outputs={"y": frame["a"] * 2, "z": frame["a"]}, version="7", rung=None)

    def answers(self, model: str) -> bool | None:
        return self.well


def frame_of(*values: int, offsets: Sequence[int] | None = None) -> pl.DataFrame:
    return pl.DataFrame(
        {"a": values, TIME: [1000] * len(values), OFFSET: offsets or list(range(len(values)))},
        schema={"a": pl.Int64, TIME: pl.Int64, OFFSET: pl.Int64},
    )


def score(scorer: Doubling, **outputs: pl.DataType) -> Score:
    return Score(model="doubling", inputs={"x": "a"}, outputs=outputs or {"y": pl.Float64()}, scorer=scorer)


def test_outputs_stand_beside_the_rows_with_what_gave_them() -> None:
    scorer = Doubling()

    result = score(scorer).build(SCHEMA).placed(FIRST).apply(frame_of(1, 2))

    assert result.frame.drop(TIME, OFFSET).to_dicts() == [
        {"a": 1, PREDICTION_ID: "doubling/events/3/0", MODEL_VERSION: "7", MODEL_RUNG: None, "y": 2.0},
        {"a": 2, PREDICTION_ID: "doubling/events/3/1", MODEL_VERSION: "7", MODEL_RUNG: None, "y": 4.0},
    ]
    assert scorer.inputs == {"x": "a"}


def test_what_no_rows_come_to_has_the_same_columns() -> None:
    transform = score(Doubling()).build(SCHEMA).placed(FIRST)

    assert transform.apply(frame_of()).frame.schema == transform.apply(frame_of(1)).frame.schema
    assert list(transform.schema) == ["a", PREDICTION_ID, MODEL_VERSION, MODEL_RUNG, "y"]


def test_rows_behind_a_join_have_ids_of_their_event_and_of_what_is_in_them() -> None:
    behind = Place(topic="events", partition=0, internal=True, made=False)
    transform = score(Doubling()).build(SCHEMA).placed(behind)
    offset = (3 << 48) + 11

    first, second = transform.apply(frame_of(5, 6, offsets=[offset, offset])).frame[PREDICTION_ID]
    (again,) = transform.apply(frame_of(6, offsets=[offset])).frame[PREDICTION_ID]

    assert first.startswith("doubling/events/3/11-")
    assert first != second
    assert second == again


def test_rows_that_a_function_made_of_one_event_are_told_apart() -> None:
    result = score(Doubling()).build(SCHEMA).placed(FIRST).apply(frame_of(5, 5, 6, 5, offsets=[1, 1, 2, 1]))

    ids = [f"doubling/events/3/{each}" for each in ("1", "1-2", "2", "1-3")]
    assert result.frame[PREDICTION_ID].to_list() == ids


def test_rows_that_are_no_events_are_told_apart_by_what_is_in_them() -> None:
    made = Place(topic="events", partition=0, internal=False, made=True)
    transform = score(Doubling()).build(SCHEMA).placed(made)

    first, second = transform.apply(frame_of(1, 2, offsets=[-1, -1])).frame[PREDICTION_ID]
    (again,) = transform.apply(frame_of(2, offsets=[-1])).frame[PREDICTION_ID]

    assert first != second
    assert second == again


def test_rows_that_do_not_fit_are_set_aside() -> None:
    result = score(Doubling()).build(SCHEMA).placed(FIRST).apply(frame_of(*range(12), -1, *range(12)))

    assert [row.offset for row in result.failed] == [12]
    assert result.failed[0].detail == "InvalidInput: a negative number"
    assert result.frame["a"].to_list() == [*range(12), *range(12)]


def test_rows_on_which_the_model_breaks_are_set_aside_where_it_answers_others() -> None:
    result = score(Doubling()).build(SCHEMA).placed(FIRST).apply(frame_of(*range(20)))

    assert [row.offset for row in result.failed] == [13]


def test_all_wait_for_a_model_that_answers_nobody() -> None:
    scorer = Doubling(well=False)

    with pytest.raises(StorageFailed, match="model 'doubling' answers nobody: the model raised ValueError"):
        score(scorer).build(SCHEMA).placed(FIRST).apply(frame_of(*range(20)))
    assert scorer.frames == [20]


def test_where_nothing_is_known_of_the_model_a_row_is_blamed_once_another_was_answered() -> None:
    transform = score(Doubling(well=None)).build(SCHEMA).placed(FIRST)

    with pytest.raises(StorageFailed, match="answers nobody"):
        transform.apply(frame_of(13))
    assert [row.offset for row in transform.apply(frame_of(13, 1)).failed] == [0]


def test_a_model_that_takes_too_long_for_a_frame_is_told_of_as_such() -> None:
    with pytest.raises(DeadlineExceeded):
        score(Doubling()).build(SCHEMA).placed(FIRST).apply(frame_of(1, 99))


def test_rows_that_do_not_fit_are_not_the_models_fault() -> None:
    result = score(Doubling(well=False)).build(SCHEMA).placed(FIRST).apply(frame_of(1, -1))

    assert [row.offset for row in result.failed] == [1]


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        ({"w": pl.Float64()}, "gives no output 'w'"),
        ({"y": pl.String()}, "is of Int64, declared is String"),
        ({"y": pl.List(pl.Int64())}, "is of Int64, declared is List"),
    ],
)
def test_outputs_that_are_not_as_declared_hold_the_rows_back(outputs: dict, said: str) -> None:
    with pytest.raises(StorageFailed, match=said):
        score(Doubling(), **outputs).build(SCHEMA).placed(FIRST).apply(frame_of(1))


def test_a_value_that_the_declared_type_cannot_hold_is_that_rows_fault() -> None:
    result = score(Doubling(), y=pl.Int8()).build(SCHEMA).placed(FIRST).apply(frame_of(1, 100))

    assert [row.offset for row in result.failed] == [1]
    assert result.frame["y"].to_list() == [2]


@pytest.mark.parametrize("taken", ["y", PREDICTION_ID, MODEL_VERSION, MODEL_RUNG])
def test_a_column_that_the_stream_has_already_is_told(taken: str) -> None:
    with pytest.raises(ConfigurationError, match=f"has a column '{taken}' already"):
        score(Doubling()).build(pl.Schema({taken: pl.String()}))
