import math

import numpy as np
import pytest

from penstock.core.tensors import DataType
from penstock.features.embedded import EmbeddedOnlineStore, online_sweep
from penstock.features.embedded.online_sweep import ENDED_MS_MIN
from penstock.features.online import NO_TIME_MS, Progress, Update
from penstock.features.timeline import TimelineRows, write_timelines
from penstock.features.view import Feature, FeatureView, KeyColumn

END_MS = 50_000
AFTER_MS = END_MS + ENDED_MS_MIN


def view(*, count=0, mean=math.nan) -> FeatureView:
    return FeatureView(
        name="v",
        keys=(KeyColumn(name="k", datatype=DataType.STRING),),
        features=(
            Feature(name="count", datatype=DataType.INT64, default=count),
            Feature(name="mean", datatype=DataType.FP64, default=mean),
            Feature(name="any", datatype=DataType.BOOL, default=False),
        ),
        topic="t",
    )


def update(key: bytes, offset: int, *, count=0, mean=None, end_ms=END_MS) -> Update:
    """A window that has something, and from `end_ms` on these (None: nothing)."""
    columns = [
        np.array([3, 0 if count is None else count]),
        np.array([2.5, 0.0 if mean is None else mean]),
        np.array([True, False]),
    ]
    masks = [np.array([True, count is not None]), np.array([True, mean is not None]), np.array([True, False])]
    rows = TimelineRows(np.array([1_000, end_ms]), columns, masks, np.array([2]))
    return Update(key, offset, offset, write_timelines(rows)[0])


def told(as_of_ms: int, next_offset=100, partition=0) -> Progress:
    """Each later than the one before, so that it is swept."""
    told.heard_ms = getattr(told, "heard_ms", 0) + 10_000
    return Progress(partition, as_of_ms, next_offset, told.heard_ms)


@pytest.fixture
def store(tmp_path):
    return EmbeddedOnlineStore(tmp_path)


def known(store, *keys: bytes, of=None) -> list[bool]:
    reader = store.reader()
    try:
        return [each is not None for each in reader.read(of or view(), keys).records]
    finally:
        reader.close()


def test_a_key_is_dropped_when_its_end_is_long_past_and_says_the_defaults(store):
    writer = store.writer(view())
    writer.put(0, [update(b"a", 1), update(b"b", 2, end_ms=END_MS + 1)], told(0))

    writer.put(0, [], told(AFTER_MS - 1))
    assert known(store, b"a", b"b") == [True, True]
    writer.put(0, [], told(AFTER_MS))
    assert known(store, b"a", b"b") == [False, True]
    assert store.size(view()) == 1


@pytest.mark.parametrize(
    ("of", "end", "is_kept"),
    [
        (view(), {"count": 0}, False),
        (view(), {"count": None}, False),
        (view(), {"count": 1}, True),
        (view(count=-1), {"count": 0}, True),
        (view(count=-1), {"count": -1}, False),
        (view(count=-1), {"count": None}, False),
        (view(mean=1.5), {"mean": 1.5}, False),
        (view(mean=0.0), {"mean": -0.0}, True),
        (view(), {"mean": math.nan}, False),
    ],
)
def test_what_ends_as_something_else_than_the_defaults_stays(store, of, end, is_kept):
    writer = store.writer(of)
    writer.put(0, [update(b"a", 1, **end)], told(0))
    for _ in range(3):
        writer.put(0, [], told(AFTER_MS * 2))

    assert known(store, b"a", of=of) == [is_kept]


def test_each_partition_s_own_time_counts_and_for_what_was_filled_the_last(store):
    writer = store.writer(view())
    writer.fill([update(b"filled", -1)])
    writer.put(1, [update(b"b", 1)], told(NO_TIME_MS, partition=1))
    writer.put(0, [update(b"a", 1)], told(AFTER_MS))
    assert known(store, b"a", b"b", b"filled") == [False, True, True]

    writer.put(1, [], told(AFTER_MS, partition=1))
    assert known(store, b"a", b"b", b"filled") == [False, False, False]


def test_readers_are_told(store):
    writer, reader = store.writer(view()), store.reader()
    writer.put(0, [update(b"\x01", 1)], told(0, next_offset=2))
    seen = reader.read(view(), []).seen
    writer.put(0, [update(b"\x02", 2, count=1)], told(AFTER_MS))

    assert sorted(reader.read(view(), [], seen).changed) == [b"\x01", b"\x02"]


def test_all_are_come_by_however_many_there_are(store, monkeypatch):
    monkeypatch.setattr(online_sweep, "ROWS_AT_ONCE", 7)
    writer = store.writer(view())
    keys = [b"%d" % number for number in range(50)]
    writer.put(0, [update(key, number, count=number % 2) for number, key in enumerate(keys)], told(0))
    for _ in range(9):
        writer.put(0, [], told(AFTER_MS))

    assert known(store, *keys) == [bool(number % 2) for number in range(50)]


def test_it_is_swept_once_a_second(store, monkeypatch):
    monkeypatch.setattr(online_sweep, "ROWS_AT_ONCE", 1)
    writer = store.writer(view())
    writer.put(0, [update(b"%d" % number, number) for number in range(9)], Progress(0, AFTER_MS, 9, 5_000))
    left = store.size(view())
    for heard_ms in (5_500, 5_999, 6_000, 6_900):
        writer.put(0, [], Progress(0, AFTER_MS, 9, heard_ms))

    assert left - store.size(view()) == 1


def test_what_comes_again_after_it_was_dropped_changes_nothing(store):
    """Its first update would bring back what its last one had replaced."""
    writer = store.writer(view())
    first, last = update(b"a", 1, count=5), update(b"a", 2)
    writer.put(0, [first, last, update(b"b", 3, count=1)], told(0, next_offset=4))
    writer.put(0, [], told(AFTER_MS, next_offset=4))
    assert known(store, b"a", b"b") == [False, True]

    writer.put(0, [first], told(1_000, next_offset=2))
    assert known(store, b"a", b"b") == [False, True]
    writer.put(0, [last, update(b"b", 3, count=1), update(b"a", 4, count=7)], told(2_000, next_offset=5))
    assert known(store, b"a", b"b") == [True, True]


def test_a_damaged_record_stays_for_who_reads_it_to_tell(store):
    writer = store.writer(view())
    writer.put(0, [update(b"a", 1)], told(0))
    writer._connection.execute("UPDATE records_1 SET record = zeroblob(8) || substr(record, 9)")
    writer.put(0, [], told(AFTER_MS))

    assert known(store, b"a") == [True]
