from collections.abc import Sequence

import polars as pl
import pytest

from penstock.core.errors import Fenced, StorageFailed
from penstock.core.tensors import DataType
from penstock.features.online import Progress, Update
from penstock.features.view import Feature, FeatureView, KeyColumn
from penstock.log.records import TopicPartition
from penstock.streams.feature_views.online_output import OnlineSink
from penstock.streams.feature_views.updates_output import UPDATE_SCHEMA
from penstock.streams.operator import OFFSET, TIME, Moment
from penstock.streams.outputs import Outlet
from penstock.streams.sinks import OutputPlace

VIEW = FeatureView(
    name="congestion",
    keys=(KeyColumn(name="origin", datatype=DataType.STRING),),
    features=(Feature(name="n", datatype=DataType.INT64, default=0),),
    topic="a.congestion.features",
)
NOW = Moment(watermark_ms=0, next_watermark_ms=0, now_ms=0)


class Store:
    """Remembers what was put, or fails."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.writers = 0
        self.puts: list[tuple[int, list[Update], Progress]] = []

    def writer(self, view: FeatureView) -> "Store":
        assert view is VIEW
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


def rows(*updates: tuple[bytes | None, bytes | None, int | None, int, int]) -> pl.DataFrame:
    """Keys, timelines, the stream's time, the record's time and offset."""
    return pl.DataFrame(updates, schema={**UPDATE_SCHEMA, TIME: pl.Int64(), OFFSET: pl.Int64()}, orient="row")


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
