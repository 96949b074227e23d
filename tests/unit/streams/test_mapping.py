"""User functions: what they may give back, what becomes of rows on which they raise."""

import asyncio
from collections.abc import Callable, Iterator

import polars as pl
import pytest

from penstock.core.errors import ConfigurationError
from penstock.streams.async_calls import AsyncCallsThread
from penstock.streams.mapping import AsyncMap, Map
from penstock.streams.operator import OFFSET, TIME

SCHEMA = pl.Schema({"a": pl.Int64()})
DOUBLED = pl.Schema({"a": pl.Int64(), "c": pl.Int64()})


def frame_of(*values: int) -> pl.DataFrame:
    times = [1000 + number for number in range(len(values))]
    offsets = list(range(len(values)))
    return pl.DataFrame(
        {"a": values, TIME: times, OFFSET: offsets}, schema={"a": pl.Int64, TIME: pl.Int64, OFFSET: pl.Int64}
    )


def double(frame: pl.DataFrame) -> pl.DataFrame:
    if (frame["a"] < 0).any():
        raise ValueError(f"a negative number\namong {frame.height}")
    return frame.with_columns(c=pl.col("a") * 2)


async def double_later(frame: pl.DataFrame) -> pl.DataFrame:
    await asyncio.sleep(0)
    return double(frame)


def test_what_it_adds_is_found_by_trying_it_without_rows() -> None:
    transform = Map(function=double).build(SCHEMA)
    assert transform.schema == DOUBLED
    result = transform.apply(frame_of(1, 2))
    assert result.frame.rows() == [(1, 1000, 0, 2), (2, 1001, 1, 4)] or result.frame["c"].to_list() == [2, 4]
    assert result.failed == ()


def test_rows_on_which_it_raises_are_set_aside_in_few_tries() -> None:
    calls: list[int] = []

    def counted(frame: pl.DataFrame) -> pl.DataFrame:
        calls.append(frame.height)
        return double(frame)

    transform = Map(function=counted, schema=DOUBLED).build(SCHEMA)
    values = list(range(1000))
    values[5] = values[600] = -1
    result = transform.apply(frame_of(*values))
    assert [row.offset for row in result.failed] == [5, 600]
    assert result.failed[0].detail == "ValueError: a negative number among 1"
    assert result.frame["a"].to_list() == [value for value in values if value >= 0]
    assert len(calls) <= 1 + 2 * 2 * 10


def test_one_that_always_raises_is_given_up_after_bounded_tries() -> None:
    calls: list[int] = []

    def broken(frame: pl.DataFrame) -> pl.DataFrame:
        calls.append(frame.height)
        raise KeyError("nothing works")

    result = Map(function=broken, schema=SCHEMA).build(SCHEMA).apply(frame_of(*range(10_000)))
    assert len(calls) <= 512
    assert result.frame.is_empty()
    assert [row.offset for row in result.failed] == list(range(10_000)), "none is lost"
    assert "given up" in result.failed[0].detail


def test_it_may_change_the_number_of_rows_if_it_keeps_their_times() -> None:
    def twice(frame: pl.DataFrame) -> pl.DataFrame:
        return pl.concat([frame, frame.filter(pl.col("a") > 1)])

    result = Map(function=twice).build(SCHEMA).apply(frame_of(1, 2))
    assert result.frame[TIME].to_list() == [1000, 1001, 1001]


def test_as_many_rows_keep_their_times_by_themselves() -> None:
    transform = Map(function=lambda frame: frame.select(b=pl.col("a") + 0.5)).build(SCHEMA)
    result = transform.apply(frame_of(1, 2))
    assert result.frame.columns == ["b", TIME, OFFSET]
    assert result.frame[OFFSET].to_list() == [0, 1]


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (lambda frame: frame.to_dict(), "gave a dict"),
        (lambda frame: frame.select("a").head(1), "keep `_time`"),
        (lambda frame: frame.with_columns(z=1), "gave the columns"),
        (lambda frame: frame.with_columns(a=pl.lit("x")), "gave 'a' as String"),
        (lambda frame: frame.with_columns(pl.lit(None, pl.Int64).alias(TIME)), "null"),
    ],
)
def test_what_is_no_frame_of_these_rows_is_not_tried_again(
    function: Callable[[pl.DataFrame], pl.DataFrame], told: str
) -> None:
    calls: list[int] = []

    def counted(frame: pl.DataFrame) -> pl.DataFrame:
        calls.append(frame.height)
        return function(frame)

    result = Map(function=counted, schema=SCHEMA).build(SCHEMA).apply(frame_of(1, 2, 3))
    assert len(result.failed) == 3
    assert told in result.failed[0].detail
    assert calls == [3]


def test_columns_in_another_order_or_all_null_are_taken() -> None:
    def shuffled(frame: pl.DataFrame) -> pl.DataFrame:
        return frame.select(TIME, pl.lit(None).alias("c"), "a", OFFSET)

    result = Map(function=shuffled, schema=DOUBLED).build(SCHEMA).apply(frame_of(1))
    assert result.frame.schema == {"a": pl.Int64, "c": pl.Int64, TIME: pl.Int64, OFFSET: pl.Int64}


def raising(frame: pl.DataFrame) -> pl.DataFrame:
    raise RuntimeError("no rows")


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (Map(function=raising), "without rows"),
        (Map(function=lambda frame: [1]), "gives a list"),  # type: ignore[arg-type, return-value]
        (Map(function=double_later), "async"),  # type: ignore[arg-type]
        (Map(function=double, schema=pl.Schema({"_a": pl.Int64()})), "'_a'"),
        (Map(function=double, schema=pl.Schema()), "no columns"),
        (Map(function=3), "no function"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_work_is_refused_where_it_is_declared(config: Map, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        config.build(SCHEMA)


@pytest.fixture
def calls() -> Iterator[AsyncCallsThread]:
    thread = AsyncCallsThread(timeout_s=0.05)
    yield thread
    thread.close()


def test_async_functions_are_waited_for_at_once(calls: AsyncCallsThread) -> None:
    waiting: list[int] = []
    most = 0

    async def slow(frame: pl.DataFrame) -> pl.DataFrame:
        nonlocal most
        waiting.append(1)
        most = max(most, len(waiting))
        for _ in range(3):
            await asyncio.sleep(0)
        waiting.pop()
        return await double_later(frame)

    config = AsyncMap(function=slow, schema=DOUBLED, calls=calls, concurrency=4)
    values = [*range(50), -1, *range(50)]
    result = config.build(SCHEMA).apply(frame_of(*values))
    assert most == 4
    assert result.frame["c"].to_list() == [2 * value for value in values if value >= 0]
    assert [row.offset for row in result.failed] == [50]
    assert config.build(SCHEMA).apply(frame_of()).frame.columns == ["a", "c", TIME, OFFSET]


def test_an_async_function_that_hangs_is_cancelled(calls: AsyncCallsThread) -> None:
    async def hanging(frame: pl.DataFrame) -> pl.DataFrame:
        if (frame["a"] == 3).any():
            await asyncio.Event().wait()
        return frame

    config = AsyncMap(function=hanging, schema=SCHEMA, calls=calls, concurrency=2)
    result = config.build(SCHEMA).apply(frame_of(1, 2, 3, 4))
    assert [row.offset for row in result.failed] == [2]
    assert result.failed[0].detail == "TimeoutError: took longer than 0.05 s"


@pytest.mark.parametrize("concurrency", [0, 100_000])
def test_calls_without_bound_are_refused(calls: AsyncCallsThread, concurrency: int) -> None:
    with pytest.raises(ConfigurationError, match="at once"):
        AsyncMap(function=double_later, schema=DOUBLED, calls=calls, concurrency=concurrency).build(SCHEMA)
