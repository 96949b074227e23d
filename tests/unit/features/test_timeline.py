import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.errors import CorruptRecords
from penstock.core.tensors import DataType
from penstock.features.timeline import TimelineRows, read_timelines, write_timelines
from penstock.features.view import Feature

FEATURES = (
    Feature(name="mean", datatype=DataType.FP64, default=0.0),
    Feature(name="count", datatype=DataType.INT64, default=0),
    Feature(name="any", datatype=DataType.BOOL, default=False),
)

ROW = st.tuples(
    st.integers(1, 1000),
    st.one_of(st.none(), st.floats(allow_nan=False)),
    st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
    st.one_of(st.none(), st.booleans()),
)
TIMELINES = st.lists(st.lists(ROW, min_size=1, max_size=6), max_size=5)


def rows_of(timelines: list[list[tuple]]) -> TimelineRows:
    """The first number of a row is how long after the row before it begins."""
    from_ms = [np.cumsum([row[0] for row in timeline]) for timeline in timelines]
    flat = [row for timeline in timelines for row in timeline]
    columns = [np.array([row[number] or 0 for row in flat], spec.datatype.numpy) for number, spec in NUMBERED]
    masks = [np.array([row[number] is not None for row in flat], np.bool_) for number, _ in NUMBERED]
    lengths = np.array([len(timeline) for timeline in timelines], np.int64)
    return TimelineRows(np.concatenate([*from_ms, np.zeros(0, np.int64)]), columns, masks, lengths)


NUMBERED = [(number + 1, spec) for number, spec in enumerate(FEATURES)]


def looked_up(timeline: list[tuple], as_of_ms: int) -> tuple:
    """One row after the other: the oracle."""
    found, begins_ms = timeline[0][1:], 0
    for row in timeline:
        begins_ms += row[0]
        if begins_ms <= as_of_ms:
            found = row[1:]
    return found


@given(TIMELINES, st.data())
def test_reads_the_last_row_that_has_begun_of_each_key_at_its_time(timelines, data):
    written = write_timelines(rows_of(timelines))
    times = data.draw(st.lists(st.integers(-5, 7000), min_size=len(timelines), max_size=len(timelines)))

    read = read_timelines(written, FEATURES, np.array(times, np.int64))

    values = [
        [None if not k else v for v, k in zip(c.tolist(), m.tolist(), strict=True)]
        for c, m in zip(*read, strict=True)
    ]
    assert [tuple(row) for row in zip(*values, strict=True)] == [
        looked_up(timeline, time) for timeline, time in zip(timelines, times, strict=True)
    ]


@given(TIMELINES, st.integers(-5, 7000))
def test_one_time_for_all_is_that_time_for_each(timelines, time):
    written = write_timelines(rows_of(timelines))

    one = read_timelines(written, FEATURES, time)
    each = read_timelines(written, FEATURES, np.full(len(timelines), time, np.int64))

    for mine, other in zip((*one.columns, *one.known), (*each.columns, *each.known), strict=True):
        assert mine.tobytes() == other.tobytes()


def test_floats_come_back_bit_for_bit():
    odd = np.array([-0.0, np.nan, np.inf, 5e-324])
    rows = TimelineRows(np.arange(4), [odd], [None], np.ones(4, np.int64))

    read = read_timelines(write_timelines(rows), FEATURES[:1], 0)

    assert read.columns[0].tobytes() == odd.tobytes()
    assert read.known[0].all()


@pytest.mark.parametrize("torn", [b"", b"1234567", bytes(24)])
def test_bytes_that_are_no_timeline_are_told(torn):
    whole = write_timelines(rows_of([[(5, 1.0, 2, True)]]))

    with pytest.raises(CorruptRecords, match="timeline of 3 features"):
        read_timelines([*whole, torn], FEATURES, 0)
