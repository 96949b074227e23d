import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.tensors import DataType
from penstock.features.online import NO_POSITION, Answer, Record, Seen, pack_record
from penstock.features.record_arrays import UNKNOWN, RecordArrays, sound
from penstock.features.timeline import TimelineRows, read_timelines, write_timelines
from penstock.features.view import Feature

FEATURES = tuple(Feature(name=name, datatype=DataType.INT64, default=0) for name in ("a", "b"))


def line(*rows: tuple[int, int, int | None]) -> bytes:
    columns = [np.array([row[place] or 0 for row in rows]) for place in (1, 2)]
    masks = [None, np.array([row[2] is not None for row in rows])]
    from_ms = np.array([row[0] for row in rows])
    return write_timelines(TimelineRows(from_ms, columns, masks, np.array([len(rows)])))[0]


def answer(*records: bytes | None) -> Answer:
    sizes = [None if each is None else len(each) for each in records]
    joined = b"".join([each for each in records if each is not None])
    return Answer(joined, sizes, (), Seen(1, 1, 1), None)


def kept(position: int, timeline: bytes, available_ms: int = 0) -> bytes:
    return pack_record(Record(position, available_ms, timeline))


ROWS = st.lists(
    st.tuples(st.integers(1, 9), st.integers(), st.none() | st.integers(0, 9)), min_size=1, max_size=5
)


def timeline(steps: list[tuple[int, int, int | None]]) -> bytes:
    begins = np.cumsum([step[0] for step in steps]).tolist()
    return line(*[(begin, step[1] % 100, step[2]) for begin, step in zip(begins, steps, strict=True)])


@given(st.lists(st.none() | ROWS, max_size=6), st.data())
def test_a_row_is_what_the_timeline_says_for_then(known, data):
    """As `read_timelines` reads it by itself."""
    lines = [None if steps is None else timeline(steps) for steps in known]
    records = [None if each is None else kept(place, each, 7) for place, each in enumerate(lines)]
    found = sound(answer(*records), 2)
    assert [lines[row] is not None for row in found.rows] == [True] * len(found.rows)
    arrays = RecordArrays(features=2, room=9, steps=5)
    places = np.array(data.draw(st.permutations(range(1, 9))))[: len(found.rows)]
    if len(places):
        arrays.write(places, found)
    times = np.array(
        data.draw(st.lists(st.integers(0, 50), min_size=len(places), max_size=len(places))), np.int64
    )

    rows = arrays.rows(places, times)

    if len(places):
        wanted = read_timelines([each for each in lines if each is not None], FEATURES, times)
        assert (rows[:, 0] >> 1 & 1).tolist() == wanted.known[1].tolist()
        assert [rows[:, 1].tolist(), rows[:, 2].tolist()] == [each.tolist() for each in wanted.columns]
    assert arrays.positions(places).tolist() == list(found.rows)
    assert arrays.available_ms(places).tolist() == [7] * len(places)


def test_a_place_that_is_written_again_has_nothing_of_before():
    arrays = RecordArrays(features=2, room=3, steps=4)
    place = np.array([1])
    arrays.write(place, sound(answer(kept(1, line((1, 1, 1), (2, 2, 2), (3, 3, 3), (4, 4, 4)))), 2))
    arrays.write(place, sound(answer(kept(2, line((1, 10, None), (3, 30, None)))), 2))

    assert arrays.rows(np.array([1, 1]), np.array([2, 9]))[:, 1].tolist() == [10, 30]


def test_growing_keeps_what_stands_there_and_more_is_unknown():
    arrays = RecordArrays(features=2, room=2, steps=2)
    arrays.write(np.array([1]), sound(answer(kept(5, line((1, 1, 1), (9, 9, 9)), 3)), 2))
    arrays.grow(4)
    arrays.write(np.array([3]), sound(answer(kept(6, line((1, 2, 2)))), 2))
    places = np.array([UNKNOWN, 1, 2, 3])

    assert arrays.positions(places).tolist() == [NO_POSITION, 5, NO_POSITION, 6]
    assert arrays.available_ms(places).tolist() == [0, 3, 0, 0]
    assert arrays.rows(places, np.full(4, 9)).tolist() == [[0, 0, 0], [3, 9, 9], [0, 0, 0], [3, 2, 2]]


def test_each_record_that_is_damaged_is_told_of_and_the_others_are_used():
    good = kept(1, line((1, 2, 3)))
    changed = bytearray(good)
    changed[30] ^= 1
    records = [good, bytes(changed), None, b"", b"short", good[:-8], kept(2, b""), kept(3, bytes(40)), good]

    found = sound(answer(*records), 2)

    assert list(found.rows) == [0, 8]
    assert sorted(found.damaged) == [1, 3, 4, 5, 6, 7]
    assert "checksum" in found.damaged[1].message
    assert "no timeline of this view" in found.damaged[7].message
    assert found.words[:, 1].tolist() == [1, 1]
