from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from penstock.core.errors import ConfigurationError
from penstock.streams.expectations import Expectations
from penstock.streams.reasons import Reason

SCHEMA = pl.Schema({"distance": pl.Int64(), "origin": pl.String(), "_time": pl.Int64(), "_offset": pl.Int64()})
EXPECTED = {
    "far": pl.col("distance") > 0,
    "known": pl.col("origin").is_in(["JFK", "LGA"]),
    "long": pl.col("origin").str.len_chars() == 3,
}


def frame(*rows: tuple[int | None, str | None]) -> pl.DataFrame:
    return pl.DataFrame(
        [(*row, number, number) for number, row in enumerate(rows)], schema=SCHEMA, orient="row"
    )


def test_rows_that_hold_are_let_through_as_they_are() -> None:
    given = frame((1, "JFK"), (2, "LGA"))
    checked = Expectations.of(EXPECTED, SCHEMA).check(given)
    assert checked.frame is given
    assert checked.failed.is_empty()
    assert checked.failures == ()


def test_the_others_are_told_by_the_names_of_what_does_not_hold() -> None:
    given = frame((1, "JFK"), (0, "LGA"), (2, "LGA"), (None, "JFK"), (-1, "XX"), (3, None))
    checked = Expectations.of(EXPECTED, SCHEMA).check(given)
    assert_frame_equal(checked.frame, given[[0, 2]])
    assert_frame_equal(checked.failed, given[[1, 3, 4, 5]])
    assert [failure.detail for failure in checked.failures] == ["far", "far", "far, known, long", "known, long"]
    assert {failure.reason for failure in checked.failures} == {Reason.EXPECTATION}


def test_expressions_without_names_are_named_by_what_they_say() -> None:
    expectations = Expectations.of([pl.col("distance") > 0], SCHEMA)
    (failure,) = expectations.check(frame((0, "JFK"))).failures
    assert failure.detail == expectations.names[0] == str(pl.col("distance") > 0)


def test_nothing_expected_and_nothing_there() -> None:
    assert Expectations.of([], SCHEMA).check(frame((None, None))).frame.height == 1
    empty = Expectations.of(EXPECTED, SCHEMA).check(frame())
    assert empty.frame.schema == SCHEMA
    assert empty.failed.schema == SCHEMA


def test_a_row_that_makes_an_expression_raise_is_alone_in_that() -> None:
    strict = pl.col("origin").str.to_integer(strict=True) > 0
    given = frame((1, "1"), (0, "2"), (2, "x"), (3, "3"), (4, "y"), (5, "0"), (6, "6"))
    checked = Expectations.of({"number": strict, "far": pl.col("distance") > 0}, SCHEMA).check(given)
    assert_frame_equal(checked.frame, given[[0, 3, 6]])
    assert_frame_equal(checked.failed, given[[1, 2, 4, 5]])
    assert [failure.reason for failure in checked.failures] == [
        Reason.EXPECTATION,
        Reason.RAISED,
        Reason.RAISED,
        Reason.EXPECTATION,
    ]
    assert "InvalidOperationError" in checked.failures[1].detail or "ComputeError" in checked.failures[1].detail


def test_functions_that_raise_are_told_of() -> None:
    def refuse(value: int) -> bool:
        if value == 2:
            raise KeyError("two")
        return True

    odd = pl.col("distance").map_elements(refuse, return_dtype=pl.Boolean)
    checked = Expectations.of({"odd": odd}, SCHEMA).check(frame((1, "a"), (2, "b"), (3, "c")))
    assert checked.frame["distance"].to_list() == [1, 3]
    assert "two" in checked.failures[0].detail


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"x": pl.col("distanse") > 0}, "'x' cannot be checked: .*distanse"),
        ({"x": pl.col("origin") > 0}, "'x' cannot be checked"),
        ({"x": pl.col("distance")}, "gives Int64 instead of one truth value"),
        ({"x": pl.all().is_not_null()}, "instead of one truth value"),
        ({"x": pl.col("distance").mean() > 0}, "one value for all rows"),
        ({"x": "distance > 0"}, "no Polars expression"),
        ([pl.col("distance") > 0, pl.col("distance") > 0], "declared twice"),
    ],
)
def test_what_cannot_be_expected(declared: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Expectations.of(declared, SCHEMA)


def test_an_unknown_column_is_answered_with_those_that_exist() -> None:
    with pytest.raises(ConfigurationError) as raised:
        Expectations.of([pl.col("distanse") > 0], SCHEMA)
    assert raised.value.hint == "the columns are distance, origin, _time, _offset"
