from collections.abc import Sequence

import msgspec
import polars as pl
import pytest

from penstock.core.errors import CorruptState, Fenced, StorageFailed
from penstock.core.tensors import DataType
from penstock.features.online import Progress, Update
from penstock.features.view import Feature, FeatureView, KeyColumn
from penstock.log.records import TopicPartition
from penstock.streams.feature_views.online_output import OnlineSink
from penstock.streams.feature_views.updates_output import UPDATE_SCHEMA, number_of
from penstock.streams.operator import OFFSET, TIME, Moment
from penstock.streams.outputs import Outlet
from penstock.streams.sinks import OutputPlace

VIEW = FeatureView(
    name="congestion",
    keys=(KeyColumn(name="origin", datatype=DataType.STRING),),
    features=(Feature(name="n", datatype=DataType.INT64, default=0),),
    topic="a.congestion.features",
)
OWN = number_of(VIEW)
NOW = Moment(watermark_ms=0, next_watermark_ms=0, now_ms=0)


class Store:
    """Remembers what was put, or fails."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.writers = 0
        self.view = VIEW
        self.puts: list[tuple[int, list[Update], Progress]] = []

    def writer(self, view: FeatureView) -> "Store":
        assert view is self.view
        self.writers += 1
        return self

    def put(self, partition: int, updates: Sequence[Update], progress: Progress) -> None:
        if self.error is not None:
            raise self.error
        self.puts.append((partition, list(updates), progress))


def outlets(store: Store, partitions: int = 1) -> list[Outlet]:
    place = OutputPlace(app="a", stage="s", output="o", topics=None, partitions=partitions, online=store)  # type: ignore[arg-type]
    output = OnlineSink(view=VIEW).output(place)
    return [output.build(TopicPartition(VIEW.topic, partition), None) for partition in range(partitions)]


def rows(
    *updates: tuple[bytes | None, bytes | None, int | None, int, int], definition: int = OWN
) -> pl.DataFrame:
    """Keys, timelines, the stream's time, the record's time and offset."""
    own = [(*update[:3], definition, *update[3:]) for update in updates]
    return pl.DataFrame(own, schema={**UPDATE_SCHEMA, TIME: pl.Int64(), OFFSET: pl.Int64()}, orient="row")


def test_the_last_update_of_each_key_is_put_before_the_commit() -> None:
    store = Store()
    (out,) = outlets(store)
    frame = rows(
        (b"a", b"1", 10, 100, 7), (b"b", b"2", 10, 100, 7), (b"a", b"3", 20, 200, 8), (None, None, 30, 300, 9)
    )
    (effect,) = out.put(frame, NOW, False).effects
    assert not store.puts
    effect.prepare()
    wanted = [Update(b"b", 7, 100, b"2"), Update(b"a", 8, 200, b"3")]
    assert store.puts == [(0, wanted, Progress(partition=0, as_of_ms=30, next_offset=10, heard_ms=300))]
    effect.publish()
    assert len(store.puts) == 1


def test_the_streams_time_never_goes_back() -> None:
    store = Store()
    (out,) = outlets(store)
    for frame in (
        rows((b"a", b"1", 50, 100, 7)),
        rows((b"b", b"2", 40, 110, 8)),
        rows((None, None, None, 120, 9)),
    ):
        out.put(frame, NOW, False).effects[0].prepare()
    assert [progress.as_of_ms for _, _, progress in store.puts] == [50, 50, 50]
    assert [progress.heard_ms for _, _, progress in store.puts] == [100, 110, 120]
    assert store.puts[2][1] == []


def test_partitions_share_a_writer_that_is_opened_when_there_is_something() -> None:
    store = Store()
    several = outlets(store, 3)
    assert not several[0].put(rows(), NOW, False).effects
    assert store.writers == 0
    for number, out in enumerate(several):
        out.put(rows((b"a", b"1", 50, 100, number)), NOW, False).effects[0].prepare()
    assert store.writers == 1
    assert [partition for partition, *_ in store.puts] == [0, 1, 2]


@pytest.mark.parametrize("error", [StorageFailed("the disk is full"), Fenced("anew", hint="restart it")])
def test_what_cannot_be_put_waits(error: Exception) -> None:
    (out,) = outlets(Store(error))
    (effect,) = out.put(rows((b"a", b"1", 50, 100, 7)), NOW, False).effects
    with pytest.raises(StorageFailed) as waited:
        effect.prepare()
    assert waited.value.hint == error.hint  # type: ignore[attr-defined]


def times_of(store: Store) -> list[int]:
    return [progress.as_of_ms for _, _, progress in store.puts]


@pytest.mark.parametrize("frames", [1, 6])
def test_time_that_passed_while_nobody_told_counts_until_an_event_says_how_far_it_is(frames: int) -> None:
    """A night without a stream: whoever reads in the morning does not read yesterday's window."""
    night_ms = 43_200_000
    told = [
        (b"a", b"1", 50_000, 100_000, 1),
        (None, None, 50_000, 101_000, 2),
        (None, None, None, 101_000 + night_ms, 3),
        (None, None, 50_500, 102_000 + night_ms, 4),
        (b"a", b"2", 50_500, 102_000 + night_ms, 5),
        (b"a", b"3", 60_000, 103_000 + night_ms, 6),
    ]
    wanted = [50_000, 50_000, 50_000 + night_ms, 50_500 + night_ms, 50_500 + night_ms, 60_000]
    store = Store()
    (out,) = outlets(store)
    state = b""
    for number in range(frames):
        (again,) = outlets(store)
        again.apply_changes(state)
        part = told[number::frames] if frames > 1 else told
        again.put(rows(*part), NOW, False).effects[0].prepare()
        state = again.take_changes()
        assert again.snapshot() == state
    assert times_of(store) == (wanted if frames > 1 else wanted[-1:])
    assert out.take_changes() == b""


def test_a_clock_that_jumps_and_comes_back_makes_no_time_pass() -> None:
    store = Store()
    (out,) = outlets(store)
    for offset, heard_ms in enumerate((100_000, 3_700_000, 101_000, 102_000)):
        out.put(rows((None, None, 50, heard_ms, offset)), NOW, False).effects[0].prepare()
    assert times_of(store) == [50, 3_600_050, 1_050, 1_050]


def test_where_time_never_goes_on_by_itself_it_does_not_here() -> None:
    store = Store()
    place = OutputPlace(app="a", stage="s", output="o", topics=None, partitions=1, online=store)  # type: ignore[arg-type]
    out = OnlineSink(view=VIEW, goes_on=False).output(place).build(TopicPartition(VIEW.topic, 0), None)
    for offset, heard_ms in enumerate((100_000, 3_700_000)):
        out.put(rows((None, None, 50, heard_ms, offset)), NOW, False).effects[0].prepare()
    assert times_of(store) == [50, 50]


def test_a_time_that_cannot_be_read_is_told_of() -> None:
    (out,) = outlets(Store())
    with pytest.raises(CorruptState):
        out.apply_changes(b"\xc1")


def test_what_an_older_definition_left_in_the_topic_is_left_out_and_its_time_with_it() -> None:
    """Its stream may have been another one, and its rows are no features of the view."""
    store = Store()
    (out,) = outlets(store)
    before = rows((b"a", b"1", 90_000, 100, 7), (None, None, 91_000, 101, 8), definition=OWN + 1)
    assert not out.put(before, NOW, False).effects
    assert out.take_changes() == b""
    both = pl.concat([before, rows((b"b", b"2", 50_000, 102, 9))])
    out.put(both, NOW, False).effects[0].prepare()
    (put,) = store.puts
    assert put == (
        0,
        [Update(b"b", 9, 102, b"2")],
        Progress(partition=0, as_of_ms=50_000, next_offset=10, heard_ms=102),
    )


def test_how_far_an_older_definition_had_come_is_forgotten() -> None:
    store = Store()
    place = OutputPlace(app="a", stage="s", output="o", topics=None, partitions=1, online=store)  # type: ignore[arg-type]
    before = msgspec.structs.replace(VIEW, definition="before")
    store.view = before
    first = OnlineSink(view=before).output(place).build(TopicPartition(VIEW.topic, 0), None)
    first.put(rows((b"a", b"1", 90_000, 100, 7), definition=number_of(before)), NOW, False)
    store.view = VIEW
    out = OnlineSink(view=VIEW).output(place).build(TopicPartition(VIEW.topic, 0), first.snapshot())
    out.put(rows((b"a", b"1", 50_000, 110, 8)), NOW, False).effects[0].prepare()
    assert times_of(store) == [50_000]
