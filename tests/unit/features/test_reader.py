import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.errors import StorageFailed
from penstock.core.tensors import DataType
from penstock.features.online import (
    NO_POSITION,
    NO_TIME_MS,
    OFFSET_BITS,
    Answer,
    Progress,
    Record,
    Seen,
    pack_record,
)
from penstock.features.reader import ViewReader
from penstock.features.timeline import TimelineRows, write_timelines
from penstock.features.view import Feature, FeatureView, KeyColumn, encode_keys

FEATURES = (
    Feature(name="mean", datatype=DataType.FP64, default=-1.5),
    Feature(name="count", datatype=DataType.INT64, default=7),
    Feature(name="any", datatype=DataType.BOOL, default=True),
)
DEFAULTS = (-1.5, 7, True)


def view(stale_s: float | None = None) -> FeatureView:
    keys = (KeyColumn(name="k", datatype=DataType.STRING), KeyColumn(name="n", datatype=DataType.INT64))
    return FeatureView(name="v", keys=keys, features=FEATURES, topic="t", stale_s=stale_s)


def timeline(*rows: tuple) -> bytes:
    """Of rows (from_ms, mean, count, any), where None is no value."""
    columns = [
        np.array([0 if row[place] is None else row[place] for row in rows], feature.datatype.numpy)
        for place, feature in enumerate(FEATURES, start=1)
    ]
    masks = [np.array([row[place] is not None for row in rows]) for place in (1, 2, 3)]
    from_ms = np.array([row[0] for row in rows], np.int64)
    return write_timelines(TimelineRows(from_ms, columns, masks, np.array([len(rows)])))[0]


class Held:
    """A store in a dict."""

    def __init__(self, records: dict | None = None, *progress: Progress) -> None:
        self.records = {encode_keys([[k], [n]])[0]: packed for (k, n), packed in (records or {}).items()}
        self.progress = progress
        self.error = None
        self.change = 1
        self.changed = ()
        self.read_keys = []

    def read(self, of, keys, since=None):
        if self.error is not None:
            raise self.error
        self.read_keys += keys
        found = [self.records.get(key) for key in keys]
        sizes = [None if each is None else len(each) for each in found]
        changed, self.changed = self.changed, ()
        seen = Seen(1, 1, self.change)
        return Answer(b"".join(filter(None, found)), sizes, self.progress, seen, changed if since else None)

    def look(self):
        if self.error is not None:
            raise self.error

    def is_current(self, of, seen):
        return seen == Seen(1, 1, self.change)

    def close(self):
        """Nothing."""


class Told:
    def __init__(self) -> None:
        self.failures = []

    def read(self, of, reading):
        raise AssertionError("what is read is told by who has it")

    def failed(self, of, error):
        self.failures.append(str(error))


def read(store: Held, keys, as_of_ms=None, *, stale_s=None, now_ms=0, told=None):
    reader = ViewReader(view(stale_s), store, lambda: now_ms, told or Told())
    columns = [[key[0] for key in keys], [key[1] for key in keys]]
    return reader.read(columns, None if as_of_ms is None else np.array(as_of_ms, np.int64))


def rows(reading) -> list[tuple]:
    return list(zip(*(column.tolist() for column in reading.columns), strict=True))


def kept(position: int, *of: tuple, available_ms=0) -> bytes:
    return pack_record(Record(position, available_ms, timeline(*of)))


ROW = st.tuples(
    st.integers(1, 50),
    st.one_of(st.none(), st.floats(allow_nan=False)),
    st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
    st.one_of(st.none(), st.booleans()),
)


@given(
    st.dictionaries(st.integers(0, 5), st.lists(ROW, min_size=1, max_size=4), max_size=5),
    st.lists(st.integers(0, 6), max_size=9),
    st.data(),
)
def test_each_row_has_what_its_key_was_at_its_time_or_the_defaults(known, asked, data):
    """The oracle looks one row up after the other."""
    times = data.draw(st.lists(st.integers(-5, 200), min_size=len(asked), max_size=len(asked)))
    timelines = {}
    for key, steps in known.items():
        begins = np.cumsum([step[0] for step in steps]).tolist()
        timelines[key] = [(begin, *step[1:]) for begin, step in zip(begins, steps, strict=True)]
    store = Held({("k", key): kept(key, *steps) for key, steps in timelines.items()}, Progress(0, 0, 0, 0))

    reading = read(store, [("k", key) for key in asked], times)

    expected = []
    for key, time in zip(asked, times, strict=True):
        steps = timelines.get(key, [])
        now = ([step for step in steps if step[0] <= time] or steps[:1] or [(0, None, None, None)])[-1]
        expected.append(tuple(d if v is None else v for v, d in zip(now[1:], DEFAULTS, strict=True)))
        row = len(expected) - 1
        assert [bool(mask[row]) for mask in reading.defaulted] == [v is None for v in now[1:]]
        assert reading.positions[row] == (key if steps else NO_POSITION)
    assert rows(reading) == expected
    assert reading.as_of_ms.tolist() == times
    assert [column.dtype for column in reading.columns] == [np.float64, np.int64, np.bool_]


@pytest.mark.parametrize(("time", "count"), [(9, 1), (10, 1), (19, 1), (20, 2), (21, 2)])
def test_a_row_holds_from_its_time_on_for_one_key_as_for_many(time, count):
    store = Held({("a", 1): kept(5, (10, 1.0, 1, False), (20, 2.0, 2, False))})

    assert read(store, [("a", 1)], [time]).columns[1].tolist() == [count]
    assert read(store, [("a", 1)] * 2, [time] * 2).columns[1].tolist() == [count] * 2


def test_without_a_time_it_is_as_of_where_the_partition_of_the_key_has_come():
    records = {("a", 1): kept(5, (10, 1.0, 1, False), (20, 2.0, 2, False), (30, 3.0, 3, False))}
    records["b", 1] = kept(
        (3 << OFFSET_BITS) + 5, (10, 1.0, 1, False), (20, 2.0, 2, False), (30, 3.0, 3, False)
    )
    store = Held(records, Progress(0, 25, 9, 0), Progress(3, 35, 9, 0), Progress(4, 12, 9, 0))

    reading = read(store, [("a", 1), ("b", 1), ("c", 1)])

    assert reading.columns[1].tolist() == [2, 3, 7]
    assert reading.as_of_ms.tolist() == [25, 35, 12], "of an unknown key it is the furthest behind that counts"


def test_a_view_that_nobody_sees_to_is_stale_and_gives_defaults():
    records = {("a", 1): kept(5, (10, 1.0, 1, False)), ("b", 1): kept((1 << OFFSET_BITS), (10, 1.0, 1, False))}
    store = Held(records, Progress(0, 25, 9, 1000), Progress(1, 25, 9, 61_000))
    keys = [("a", 1), ("b", 1), ("c", 1)]

    reading = read(store, keys, stale_s=60.0, now_ms=61_001)

    assert reading.stale.tolist() == [True, False, True]
    assert rows(reading) == [DEFAULTS, (1.0, 1, False), DEFAULTS]
    assert reading.positions.tolist() == [5, 1 << OFFSET_BITS, NO_POSITION]
    assert read(store, keys, stale_s=60.0, now_ms=61_000).stale.tolist() == [False, False, False]
    assert read(store, keys, now_ms=10**12).stale.tolist() == [False, False, False], "it may be silent for ever"


def test_a_view_of_which_nothing_was_heard_yet_gives_defaults():
    assert rows(read(Held(), [("a", 1)] * 3)) == [DEFAULTS] * 3
    assert read(Held(), [("a", 1)]).stale.tolist() == [False]
    assert read(Held(), [("a", 1)], stale_s=1.0).stale.tolist() == [True]


def test_what_history_filled_is_as_of_its_own_time_until_the_stream_says_more():
    record = {("a", 1): kept(NO_POSITION, (10, 1.0, 1, False), (40, 2.0, 2, False), available_ms=44)}

    assert rows(read(Held(record), [("a", 1)])) == [(2.0, 2, False)]
    behind = read(Held(record, Progress(0, 20, 1, 0)), [("a", 1)])
    assert (rows(behind), behind.as_of_ms.tolist()) == ([(2.0, 2, False)], [44])
    assert read(Held(record, Progress(0, 60, 1, 0)), [("a", 1)]).as_of_ms.tolist() == [60]


@pytest.mark.parametrize("keys", [1, 2])
def test_a_partition_without_an_event_holds_no_time_back(keys):
    """What history filled decays by the partition that has come furthest, whichever it will be in."""
    record = {("a", 1): kept(NO_POSITION, (10, 1.0, 1, False), (40, 2.0, 2, False), available_ms=12)}
    asked = [("a", 1)] * keys
    none, far = Progress(0, NO_TIME_MS, 1, 0), Progress(1, 50, 1, 0)

    for progress, value, as_of_ms in (((none,), 1, 12), ((none, far), 2, 50), ((far,), 2, 50)):
        reading = read(Held(record, *progress), asked, now_ms=1000)
        assert (reading.columns[1].tolist(), reading.as_of_ms.tolist()) == ([value] * keys, [as_of_ms] * keys)
    assert read(Held({}, none), asked, now_ms=1000).as_of_ms.tolist() == [1000] * keys
    assert read(Held({}, none, far), asked, now_ms=1000).as_of_ms.tolist() == [50] * keys
    assert read(Held({}), asked, now_ms=1000).as_of_ms.tolist() == [1000] * keys


def test_what_was_heard_at_a_time_that_is_still_to_come_is_stale():
    store = Held({("a", 1): kept(5, (10, 1.0, 1, False))}, Progress(0, 25, 9, 10**12))

    assert read(store, [("a", 1)], stale_s=60.0, now_ms=61_000).stale.tolist() == [True]


def test_a_store_that_cannot_be_read_gives_defaults_and_is_told_of():
    store, told = Held({("a", 1): kept(5, (10, 1.0, 1, False))}, Progress(0, 25, 9, 0)), Told()
    store.error = StorageFailed("the disk is gone")

    assert rows(read(store, [("a", 1)] * 2, told=told)) == [DEFAULTS] * 2
    assert told.failures == ["the disk is gone"]


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"short",
        kept(5, (10, 1.0, 1, False))[:-1] + b"\xff",
        kept(5, (10, 1.0, 1, False))[:-8],
        pack_record(Record(5, 0, b"")),
        pack_record(Record(5, 0, bytes(8 * 4))),
    ],
)
def test_a_damaged_record_is_missing_and_told_of_and_others_are_read(damaged):
    told = Told()
    store = Held({("a", 1): damaged, ("b", 1): kept(6, (10, 1.0, 1, False))}, Progress(0, 25, 9, 0))

    reading = read(store, [("a", 1), ("b", 1)], told=told)

    assert rows(reading) == [DEFAULTS, (1.0, 1, False)]
    assert reading.positions.tolist() == [NO_POSITION, 6]
    assert len(told.failures) == 1


def test_defaults_alone_need_no_store():
    reading = ViewReader(view(), Held(), lambda: 0, Told()).defaults(2)

    assert rows(reading) == [DEFAULTS] * 2
    assert all(mask.all() for mask in reading.defaulted)


def reading_of(reader: ViewReader, *keys: tuple[str, int]):
    return rows(reader.read([[key[0] for key in keys], [key[1] for key in keys]]))


def test_what_is_held_is_not_read_again_until_it_has_changed():
    first, second = (kept(5, (10, value, 1, False)) for value in (1.0, 2.0))
    store = Held({("a", 1): first, ("b", 1): first}, Progress(0, 25, 9, 0))
    reader = ViewReader(view(), store, lambda: 0, Told())
    nobody = ("nobody", 1)
    asked = [("a", 1), ("b", 1), nobody, ("a", 1)]
    values = [(1.0, 1, False), (1.0, 1, False), DEFAULTS, (1.0, 1, False)]
    assert reading_of(reader, *asked) == values
    assert reading_of(reader, *asked) == values
    assert len(store.read_keys) == 3

    store.records = dict.fromkeys(store.records, second)
    assert reading_of(reader, *asked) == values, "who does not say that anything has changed"
    store.change, store.changed = 2, encode_keys([["a", "nobody"], [1, 1]])
    store.records[encode_keys([["nobody"], [1]])[0]] = second
    store.read_keys.clear()

    assert reading_of(reader, *asked) == [(2.0, 1, False), (2.0, 1, False), (2.0, 1, False), (2.0, 1, False)]
    assert reading_of(reader, *asked)[0] == (2.0, 1, False)
    assert len(store.read_keys) == 3, "of few keys all are read where something has changed"


def test_of_many_keys_only_those_are_read_again_that_have_changed():
    keys = [("a", number) for number in range(20)]
    store = Held({key: kept(5, (10, 1.0, 1, False)) for key in keys}, Progress(0, 25, 9, 0))
    reader = ViewReader(view(), store, lambda: 0, Told())
    reading_of(reader, *keys)
    store.change, store.changed = 2, ()
    reading_of(reader, *keys)
    store.read_keys.clear()

    changed = encode_keys([["a", "a"], [3, 4]])
    store.change, store.changed = 3, changed
    store.records[changed[0]] = kept(6, (10, 2.0, 1, False))
    assert [row[0] for row in reading_of(reader, *keys)] == [1.0] * 3 + [2.0] + [1.0] * 16

    assert store.read_keys == changed


def test_a_store_that_fails_and_comes_back_is_read_again():
    store = Held({("a", 1): kept(5, (10, 1.0, 1, False))}, Progress(0, 25, 9, 0))
    told = Told()
    reader = ViewReader(view(), store, lambda: 0, told)
    assert reading_of(reader, ("a", 1)) == [(1.0, 1, False)]
    store.error = StorageFailed("the disk is gone")

    assert reading_of(reader, ("a", 1)) == [DEFAULTS]
    store.error = None

    assert reading_of(reader, ("a", 1)) == [(1.0, 1, False)]
    assert len(told.failures) == 1


def test_a_damaged_record_is_told_of_whenever_it_is_read():
    store = Held({("a", 1): b"short", ("b", 1): kept(6, (10, 1.0, 1, False))}, Progress(0, 25, 9, 0))
    told = Told()
    reader = ViewReader(view(), store, lambda: 0, told)
    for times in (1, 2, 3):
        assert reading_of(reader, ("a", 1), ("b", 1)) == [DEFAULTS, (1.0, 1, False)]
        assert len(told.failures) == times
    store.records[encode_keys([["a"], [1]])[0]] = kept(7, (10, 2.0, 1, False))

    assert reading_of(reader, ("a", 1), ("b", 1)) == [(2.0, 1, False), (1.0, 1, False)]


@pytest.mark.parametrize("held_bytes", [0, 700, 10**6])
@pytest.mark.parametrize("length", [1, 2, 300])
def test_however_little_may_be_held_all_is_read(held_bytes, length):
    keys = [("k" * length, number) for number in range(30)]
    store = Held({key: kept(5, (10, key[1] / 2, key[1], False)) for key in keys}, Progress(0, 25, 9, 0))
    reader = ViewReader(view(), store, lambda: 0, Told(), held_bytes)
    for _ in range(2):
        for asked in (keys, keys[:2], keys[::-1], [keys[3]] * 40):
            assert [row[1] for row in reading_of(reader, *asked)] == [key[1] for key in asked]
