"""What a window does with what is sent; that its answers are right is for the property tests."""

from datetime import UTC, datetime

import polars as pl
import pytest

from penstock.core.errors import ConfigurationError, CorruptState, InvalidInput
from penstock.streams.operator import TIME, Moment
from penstock.streams.windows import SessionConfig, WindowConfig
from penstock.streams.windows.aggregates import (
    Count,
    Distinct,
    Last,
    Max,
    Mean,
    Min,
    Quantile,
    Sum,
    Variance,
)
from penstock.streams.windows.window import SWEEP_TILES_MIN

EVERYTHING = {
    "n": Count(), "total": Sum("v"), "mean": Mean("v"), "least": Min("v"), "most": Max("v"), "last": Last("v"),
    "spread": Variance("v"), "different": Distinct("v"), "median": Quantile("v", 0.5),
}  # fmt: skip


def config(**options: object) -> WindowConfig:
    given = {"keys": ("k",), "over_ms": 60, "every_ms": 10, "aggregates": {"n": Count()}}
    return WindowConfig(**{**given, **options})


def frame(times: list[int], keys: list[str] | str = "a", **columns: object) -> pl.DataFrame:
    return pl.DataFrame(
        {
            TIME: pl.Series(times, dtype=pl.Int64),
            "k": pl.Series([keys] * len(times) if isinstance(keys, str) else keys, dtype=pl.String),
            **columns,
        }
    )


def moment(before_ms: int, after_ms: int) -> Moment:
    return Moment(watermark_ms=before_ms, next_watermark_ms=after_ms, now_ms=0)


def test_the_tiles_of_the_window_are_read() -> None:
    window = config().build(None)
    read = window.process(frame([0, 9, 10, 59, 60, 69, 70, 200]), moment(-100, 0))
    assert read["n"].to_list() == [1, 2, 3, 4, 3, 4, 4, 1]
    exclusive = config(inclusive=False).build(None)
    assert exclusive.process(frame([0, 9, 10]), moment(-100, 0))["n"].to_list() == [0, 1, 2]


def test_windows_close_once_when_the_watermark_reaches_their_end() -> None:
    window = config(over_ms=20, closing=True, reading=False).build(None)
    window.process(frame([5, 12]), moment(-100, 9))
    assert window.take_closed().is_empty()
    window.process(frame([]), moment(9, 20))
    closed = window.take_closed()
    assert closed["n"].to_list() == [1, 2]
    ends = [datetime.fromtimestamp(second, UTC) for second in (0.01, 0.02)]
    assert closed["window_end"].to_list() == ends
    assert window.take_closed().is_empty()
    assert window.take_closed().schema == closed.schema
    window.process(frame([]), moment(20, 1000))
    assert window.take_closed()["n"].to_list() == [1]
    window.process(frame([]), moment(1000, 2000))
    assert window.take_closed().is_empty()
    assert window.statistics().closed == 3


def test_events_older_than_what_closed_are_dropped_and_counted() -> None:
    window = config(closing=True).build(None)
    window.process(frame([100]), moment(-100, 55))
    read = window.process(frame([49, 50, 54, 120]), moment(55, 55))
    assert read[TIME].to_list() == [50, 54, 120]
    assert window.statistics().dropped == 1


def test_types_come_back_as_they_were() -> None:
    times = frame(
        [1, 2],
        when=[datetime(2013, 1, 2, tzinfo=UTC), datetime(2013, 1, 1, tzinfo=UTC)],
        flag=[True, False],
        small=pl.Series([7, 8], dtype=pl.Int8),
    )
    asked = {"when": Max("when"), "flag": Min("flag"), "small": Last("small"), "kept": Sum("small")}
    renamed = {f"{name}_of": aggregate for name, aggregate in asked.items()}
    read = config(aggregates=renamed).build(None).process(times, moment(-100, 0))
    assert read["when_of"].to_list() == [datetime(2013, 1, 2, tzinfo=UTC)] * 2
    assert read["flag_of"].to_list() == [True, False]
    assert read.schema["small_of"] == pl.Int8
    assert read["kept_of"].to_list() == [7, 15]


def test_an_empty_frame_has_the_columns_too() -> None:
    for options in ({}, {"closing": True}):
        window = config(aggregates=EVERYTHING, **options).build(None)
        empty = window.process(frame([], v=pl.Series([], dtype=pl.Float64)), moment(-100, 0))
        full = window.process(frame([5], v=[1.5]), moment(0, 0))
        assert empty.schema == full.schema
        assert full.select("total", "mean", "least", "most", "last", "spread", "different").row(0) == (
            *(1.5,) * 5,
            None,
            1,
        )


def test_infinities_poison_their_window_and_no_other() -> None:
    window = config(aggregates={"total": Sum("v"), "spread": Variance("v")}, over_ms=10).build(None)
    values = [1.0, float("inf"), float("-inf"), 2.0, 3.0]
    read = window.process(frame([0, 1, 2, 10, 11], v=values), moment(-100, 0))
    assert str(read["total"].to_list()) == "[1.0, inf, nan, 2.0, 5.0]"


def test_sums_that_leave_the_floats_do_not_touch_the_next_key() -> None:
    window = config(aggregates={"total": Sum("v")}).build(None)
    given = frame([0, 1, 0, 1], ["a", "a", "b", "b"], v=[1e308, 1e308, 1.0, 2.0])
    assert window.process(given, moment(-100, 0))["total"].to_list() == [1e308, float("inf"), 1.0, 3.0]


def test_keys_beyond_the_cap_go_and_are_counted() -> None:
    window = config(keys_max=10).build(None)
    shadow = config(keys_max=10).build(None)
    for number in range(100):
        window.process(frame([number], f"k{number}"), moment(-100, 0))
        window.process(frame([number], "often"), moment(-100, 0))
        shadow.apply_changes(window.take_changes())
    statistics = window.statistics()
    assert statistics.keys <= 10
    assert statistics.keys + statistics.evicted == 101
    assert window.process(frame([100], "often"), moment(-100, 0))["n"].item() > 50
    shadow.apply_changes(window.take_changes())
    assert shadow.snapshot() == window.snapshot()


def test_keys_whose_tiles_have_expired_go() -> None:
    window = config().build(None)
    window.process(frame([0] * SWEEP_TILES_MIN, list(map(str, range(SWEEP_TILES_MIN)))), moment(-100, 0))
    assert window.statistics().keys == SWEEP_TILES_MIN
    window.process(frame([10_000], "other"), moment(0, 10_000))
    assert window.statistics().keys == 1
    assert window.statistics().expired == SWEEP_TILES_MIN


def test_few_that_have_expired_lie_until_there_are_too_many() -> None:
    window = config(keys_max=5).build(None)
    window.process(frame([0, 0, 0], ["a", "b", "c"]), moment(-100, 0))
    read = window.process(frame([10_000], "d"), moment(0, 10_000))
    assert window.statistics().keys == 4
    assert window.process(frame([10_000], "a"), moment(10_000, 10_000))["n"].to_list() == [1]
    window.process(frame([20_000] * 2, ["e", "f"]), moment(10_000, 20_000))
    statistics = window.statistics()
    assert (statistics.keys, statistics.expired, statistics.evicted) == (2, 4, 0)
    assert read["n"].to_list() == [1]


def test_times_far_apart_in_one_frame() -> None:
    """So far that the positions of key and step in one integer would not fit."""
    far = (1 << 46) - 1
    keys = [f"k{number}" for number in range(70_000)]
    window = config(every_ms=None, aggregates={"n": Count(), "different": Distinct("v")}).build(None)
    given = frame([-far, far] * 35_000, keys, v=[1] * 70_000)
    read = window.process(given, moment(-(1 << 60), -(1 << 60)))
    assert read["n"].to_list() == [1] * 70_000
    assert read["different"].to_list() == [1] * 70_000
    copy = window.process(given, moment(-(1 << 60), -(1 << 60)))
    assert copy["n"].to_list() == [2] * 70_000


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (frame([1], v=["x"]), "cannot aggregate"),
        (frame([1]), "not in the frame"),
        (frame([1 << 50], v=[1.0]), "milliseconds"),
        (pl.DataFrame({TIME: [1], "v": [1.0]}), "not in the frame"),
    ],
)
def test_what_cannot_be_taken_in(given: pl.DataFrame, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        config(aggregates={"total": Sum("v")}).build(None).process(given, moment(-100, 0))


def test_a_column_that_changes_its_type() -> None:
    window = config(aggregates={"total": Sum("v")}).build(None)
    window.process(frame([1], v=[1]), moment(-100, 0))
    assert window.process(frame([1], v=pl.Series([2], dtype=pl.Int8)), moment(-100, 0))["total"].item() == 3
    assert window.process(frame([1], v=[None]), moment(-100, 0))["total"].item() == 3
    with pytest.raises(InvalidInput, match="before it was of Int64"):
        window.process(frame([1], v=[1.5]), moment(-100, 0))
    for aggregate in (Sum("when"), Mean("when"), Variance("when")):
        with pytest.raises(InvalidInput, match="means nothing"):
            config(aggregates={"x": aggregate}).build(None).process(
                frame([1], when=[datetime(2013, 1, 1, tzinfo=UTC)]), moment(-100, 0)
            )


@pytest.mark.parametrize(
    "options",
    [
        {"keys": ()},
        {"aggregates": {}},
        {"over_ms": 55},
        {"over_ms": 0},
        {"every_ms": 0},
        {"every_ms": None, "closing": True},
        {"aggregates": {"_n": Count()}},
        {"aggregates": {"k": Count()}},
        {"aggregates": {"window_end": Count()}, "closing": True},
        {"keys_max": 0},
    ],
)
def test_what_is_no_window(options: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        config(**options)


def snapshot_of(made: WindowConfig) -> bytes:
    window = made.build(None)
    window.process(frame([1, 2, 30], ["a", "b", "a"], v=[1.0, None, 2.0]), moment(-100, 0))
    return window.snapshot()


def test_state_of_another_window_is_refused() -> None:
    snapshot = snapshot_of(config(aggregates=EVERYTHING))
    with pytest.raises(CorruptState, match="another window"):
        config().build(snapshot)
    with pytest.raises(CorruptState, match="another window"):
        SessionConfig(keys=("k",), gap_ms=10, aggregates=EVERYTHING).build(snapshot)
    window = config(aggregates=EVERYTHING).build(None)
    window.process(frame([1], v=[1.0]), moment(-100, 0))
    with pytest.raises(CorruptState, match="another window"):
        config().build(None).apply_changes(window.take_changes())


def test_damaged_state_is_an_error_of_its_own() -> None:
    made = config(aggregates=EVERYTHING)
    snapshot = snapshot_of(made)
    for at in range(0, len(snapshot), 7):
        damaged = bytearray(snapshot)
        damaged[at] ^= 0xFF
        with pytest.raises(CorruptState):
            made.build(bytes(damaged))


def test_changes_are_linear_in_the_frame() -> None:
    window = config().build(None)
    window.process(
        frame(list(range(50_000)), [f"k{number % 5000}" for number in range(50_000)]), moment(-100, 0)
    )
    assert len(window.take_changes()) > 100_000
    window.process(frame([50_000] * 10, "k1"), moment(0, 0))
    assert len(window.take_changes()) < 1000
    assert window.take_changes() == b""
    window.process(frame([]), moment(0, 5))
    assert window.take_changes() == b""
