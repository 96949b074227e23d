"""The interval join: single cases, bounds and damage; the property test has the rest."""

import msgspec
import polars as pl
import pytest

from penstock.core.errors import ConfigurationError, CorruptState
from penstock.streams.joins.columns import JoinColumns
from penstock.streams.joins.interval import IntervalJoin, IntervalJoinConfig
from penstock.streams.operator import OFFSET, TIME, TwoMoment

LEFT = pl.Schema({"key": pl.Int64(), "a": pl.String()})
RIGHT = pl.Schema({"key": pl.Int64(), "a": pl.String()})
COLUMNS = JoinColumns(left=LEFT, right=RIGHT, left_key=["key"], right_key=["key"])
CONFIG = IntervalJoinConfig(columns=COLUMNS, before_ms=10, after_ms=5, how="left")
START = TwoMoment(left_watermark_ms=0, right_watermark_ms=0, now_ms=0)


def frame_of(*events: tuple[int | None, str, int]) -> pl.DataFrame:
    schema = {**LEFT, TIME: pl.Int64(), OFFSET: pl.Int64()}
    return pl.DataFrame([(*event, number) for number, event in enumerate(events)], schema=schema, orient="row")


def moment_at(left_ms: int, right_ms: int) -> TwoMoment:
    return TwoMoment(left_watermark_ms=left_ms, right_watermark_ms=right_ms, now_ms=0)


def rows(pieces: "list[pl.DataFrame]") -> list[tuple[object, ...]]:
    return [row for piece in pieces for row in piece.rows()]


def test_pairs_come_with_the_later_time_and_those_alone_with_nulls() -> None:
    join = CONFIG.build(None)
    assert rows([*join.process_left(frame_of((1, "l", 100), (2, "m", 100), (None, "n", 100)), START)]) == []
    met = join.process_right(
        frame_of((1, "r", 90), (1, "s", 105), (1, "t", 89), (1, "u", 106), (None, "v", 100)), START
    )
    assert sorted(rows([*met])) == [(1, "l", "r", 100, 0), (1, "l", "s", 105, 0)]
    assert rows([*join.process_right(frame_of(), moment_at(0, 105))]) == []
    alone = rows([*join.process_right(frame_of(), moment_at(0, 106))])
    assert alone == [(2, "m", None, 100, 1), (None, "n", None, 100, 2)]
    assert join.statistics().left_rows == 0
    assert rows([*join.process_left(frame_of((1, "x", 111)), moment_at(100, 106))]) == [
        (1, "x", "s", 111, 0),
        (1, "x", "u", 111, 0),
    ]


def test_a_hot_key_comes_in_pieces() -> None:
    config = IntervalJoinConfig(columns=COLUMNS, before_ms=10, after_ms=10, chunk_rows=70)
    join = config.build(None)
    many = frame_of(*[(1, str(number), number % 3) for number in range(100)])
    assert not [*join.process_left(many, START)]
    pieces = [*join.process_right(many, START)]
    assert [piece.height for piece in pieces] == [70] * 142 + [60]
    pairs = pl.concat(pieces)
    assert pairs.select("a", "a_right").unique().height == 10_000


def test_the_state_has_changed_whether_or_not_the_pieces_are_taken() -> None:
    join = CONFIG.build(None)
    join.process_left(frame_of((1, "l", 100)), START)
    untaken = join.process_right(frame_of((1, "r", 100)), START)
    assert join.statistics().pairs == 1
    assert rows([*join.process_right(frame_of(), moment_at(10**6, 10**6))]) == []
    assert rows([*untaken]) == [(1, "l", "r", 100, 0)], "what was found stays"


def test_too_many_rows_go_oldest_first_and_are_counted() -> None:
    config = IntervalJoinConfig(columns=COLUMNS, before_ms=1000, after_ms=1000, how="left", rows_max=10)
    join = config.build(None)
    out = rows([*join.process_left(frame_of(*[(number, "l", number) for number in range(12)]), START)])
    assert [row[0] for row in out] == [0, 1, 2], "they are told to have met none"
    statistics = join.statistics()
    assert (statistics.left_rows, statistics.left_rows_evicted) == (9, 3)
    [*join.process_right(frame_of(*[(number, "r", number) for number in range(12)]), START)]
    assert join.statistics().right_rows_evicted == 3
    assert join.statistics().pairs == 9
    restored = config.build(join.snapshot()).statistics()
    assert msgspec.structs.replace(restored, keys=12) == join.statistics()


def test_ticks_change_little() -> None:
    join = CONFIG.build(None)
    assert join.take_changes() == b""
    for number in range(1000):
        join.process_left(frame_of(), moment_at(number, number))
    assert len(join.take_changes()) < 200
    join.process_left(frame_of(), moment_at(999, 999))
    assert join.take_changes() == b""


def fed() -> IntervalJoin:
    join = CONFIG.build(None)
    join.process_left(frame_of((1, "l", 100)), START)
    return join


@pytest.mark.parametrize(
    "config",
    [
        IntervalJoinConfig(columns=COLUMNS, before_ms=10, after_ms=6, how="left"),
        IntervalJoinConfig(columns=COLUMNS, before_ms=10, after_ms=5),
    ],
)
def test_the_state_of_another_join_is_refused(config: IntervalJoinConfig) -> None:
    with pytest.raises(CorruptState, match="changed"):
        config.build(fed().snapshot())


def test_damage_is_seen() -> None:
    join = fed()
    changes, snapshot = join.take_changes(), join.snapshot()
    for cut in (1, 9, 100):
        with pytest.raises(CorruptState):
            CONFIG.build(None).apply_changes(changes[:-cut])
        with pytest.raises(CorruptState):
            CONFIG.build(snapshot[:-cut])
    with pytest.raises(CorruptState):
        CONFIG.build(changes)
    with pytest.raises(CorruptState):
        CONFIG.build(None).apply_changes(snapshot)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"before_ms": -6, "after_ms": 5}, "cannot work"),
        ({"before_ms": 10**12}, "cannot work"),
        ({"how": "outer"}, "'outer'"),
        ({"rows_max": 0}, "0 rows"),
        ({"columns": JoinColumns(left=LEFT, right=RIGHT, left_key=[], right_key=[])}, "no key"),
        ({"columns": JoinColumns(left=LEFT, right=RIGHT, left_key=["q"], right_key=["key"])}, "'q'"),
        (
            {"columns": JoinColumns(left=LEFT, right=RIGHT, left_key=["key"], right_key=["a"])},
            "Int64 and String",
        ),
        (
            {"columns": JoinColumns(left=LEFT, right=RIGHT, left_key=["key"], right_key=["key"], suffix="")},
            "two columns 'a'",
        ),
    ],
)
def test_what_cannot_work_is_refused(values: dict[str, object], told: str) -> None:
    given: dict[str, object] = {"columns": COLUMNS, "before_ms": 1, "after_ms": 1, **values}
    with pytest.raises(ConfigurationError, match=told):
        IntervalJoinConfig(**given)  # type: ignore[arg-type]
