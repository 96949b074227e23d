"""The table join: single cases, bounds and damage; the property test has the rest."""

import polars as pl
import pytest

from penstock.core.errors import ConfigurationError, CorruptState
from penstock.streams.joins.columns import JoinColumns
from penstock.streams.joins.table import TableJoin, TableJoinConfig
from penstock.streams.operator import DELETED, OFFSET, TIME, TwoMoment

LEFT = pl.Schema({"key": pl.String()})
TABLE = pl.Schema({"id": pl.String(), "v": pl.Int64()})
COLUMNS = JoinColumns(left=LEFT, right=TABLE, left_key=["key"], right_key=["id"])
LATEST = TableJoinConfig(columns=COLUMNS, ttl_ms=1000)
AS_OF = TableJoinConfig(columns=COLUMNS, ttl_ms=1000, mode="as_of")


START = TwoMoment(left_watermark_ms=0, right_watermark_ms=0, now_ms=0)


def moment_at(left_ms: int, right_ms: int, *, idle: bool = False) -> TwoMoment:
    return TwoMoment(left_watermark_ms=left_ms, right_watermark_ms=right_ms, now_ms=0, right_idle=idle)


def stream_of(*events: tuple[str | None, int]) -> pl.DataFrame:
    schema = {**LEFT, TIME: pl.Int64(), OFFSET: pl.Int64()}
    return pl.DataFrame([(*event, number) for number, event in enumerate(events)], schema=schema, orient="row")


def table_of(*records: tuple[str | None, int | None, int]) -> pl.DataFrame:
    schema = {**TABLE, TIME: pl.Int64(), OFFSET: pl.Int64()}
    return pl.DataFrame(
        [(*record, number) for number, record in enumerate(records)], schema=schema, orient="row"
    )


def asked(join: TableJoin, *events: tuple[str | None, int], moment: TwoMoment = START) -> list[object]:
    return [value for frame in join.process_left(stream_of(*events), moment) for value in frame["v"]]


def test_latest_is_what_was_read_last() -> None:
    join = LATEST.build(None)
    assert asked(join, ("a", 0)) == [None]
    join.process_right(table_of(("a", 1, 500), ("b", 2, 0), (None, 3, 0), ("a", 4, 100)), moment_at(0, 0))
    assert asked(join, ("a", 0), ("b", 1000), ("b", 1001), ("c", 0), (None, 0)) == [4, 2, None, None, None]
    gone = table_of(("a", None, 0)).with_columns(pl.lit(value=True).alias(DELETED))
    join.process_right(gone, moment_at(0, 0))
    assert asked(join, ("a", 0)) == [None]


def test_as_of_waits_for_the_table() -> None:
    join = AS_OF.build(None)
    join.process_right(table_of(("a", 1, 10), ("a", 2, 20)), moment_at(0, 15))
    assert asked(join, ("a", 9), ("a", 14), ("a", 15), ("a", 30), moment=moment_at(0, 15)) == [None, 1]
    assert join.statistics().waiting_rows == 2
    assert join.output_watermark_ms(moment_at(40, 15)) == 15
    [out] = join.process_right(table_of(("a", 3, 16)), moment_at(0, 25))
    assert out.rows() == [("a", 1, 15, 2)]
    [out] = join.process_left(stream_of(), moment_at(0, 25, idle=True))
    assert out.rows() == [("a", 2, 30, 3)]
    assert join.output_watermark_ms(moment_at(40, 15, idle=True)) == 40


def test_a_key_that_is_gone_hides_older_records_that_come_later() -> None:
    join = TableJoinConfig(columns=COLUMNS, ttl_ms=15, mode="as_of").build(None)
    gone = table_of(("a", None, 10)).with_columns(pl.lit(value=True).alias(DELETED))
    join.process_right(gone, moment_at(20, 5))
    join.process_right(table_of(("a", 1, 7)), moment_at(20, 5))
    assert asked(join, ("a", 20), moment=moment_at(20, 25)) == [None]


def test_too_many_that_wait_go_on_with_what_is_known() -> None:
    join = TableJoinConfig(columns=COLUMNS, ttl_ms=1000, mode="as_of", waiting_rows_max=3).build(None)
    assert asked(join, *[("a", time) for time in range(5)]) == [None, None]
    assert join.statistics().rows_hurried == 2
    assert join.statistics().waiting_rows == 3


def test_too_many_keys_go_by_when_they_were_written() -> None:
    config = TableJoinConfig(columns=COLUMNS, ttl_ms=1000, keys_max=10)
    join = config.build(None)
    for start in (0, 5):
        records = [(str(number), number, 0) for number in range(start, start + 5)]
        join.process_right(table_of(*records, ("0", 0, 0)), moment_at(0, 0))
    join.process_right(table_of(("10", 10, 0)), moment_at(0, 0))
    statistics = join.statistics()
    assert (statistics.keys, statistics.keys_evicted) == (9, 2)
    assert asked(join, *[(str(number), 0) for number in range(11)]) == [0, None, None, *range(3, 11)]
    assert config.build(join.snapshot()).statistics() == statistics


def test_a_table_that_is_written_all_the_time_stays_small() -> None:
    for config in (LATEST, AS_OF):
        join = config.build(None)
        for number in range(100):
            records = [(str(key), number, number) for key in range(200)]
            join.process_right(table_of(*records), moment_at(number, number))
        assert join.statistics().keys == 200
        assert join.statistics().versions <= 5000


def test_what_went_through_leaves_no_rows_in_the_changes() -> None:
    join = LATEST.build(None)
    assert join.take_changes() == b""
    asked(join, *[("a", 0)] * 1000)
    assert len(join.take_changes()) < 300


def test_damage_and_the_state_of_another_join_are_seen() -> None:
    join = LATEST.build(None)
    join.process_right(table_of(("a", 1, 0)), moment_at(0, 0))
    snapshot, changes = join.snapshot(), join.take_changes()
    assert asked(LATEST.build(snapshot), ("a", 0)) == [1]
    for cut in (1, 9, 100):
        with pytest.raises(CorruptState):
            LATEST.build(snapshot[:-cut])
        with pytest.raises(CorruptState):
            LATEST.build(None).apply_changes(changes[:-cut])
    with pytest.raises(CorruptState, match="changed"):
        AS_OF.build(snapshot)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"mode": "now"}, "'now'"),
        ({"ttl_ms": -1}, "-1ms"),
        ({"keys_max": 0}, "0 keys"),
        ({"waiting_rows_max": 0}, "0 rows"),
    ],
)
def test_what_cannot_work_is_refused(values: dict[str, object], told: str) -> None:
    given: dict[str, object] = {"columns": COLUMNS, "ttl_ms": 1, **values}
    with pytest.raises(ConfigurationError, match=told):
        TableJoinConfig(**given)  # type: ignore[arg-type]
