"""Records come back from the log's frames as they were."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.log.embedded.codec import decode_records, encode_records
from penstock.log.embedded.limits import LogLimits
from penstock.log.embedded.pending import frames_of
from penstock.log.records import Records, concatenated, cut

INT64 = st.integers(min_value=-(2**63), max_value=2**63 - 1)
PAYLOADS = st.one_of(st.binary(max_size=50), st.sampled_from([b"", b"x" * 700, b'{"a": 1}']))
HEADERS = st.one_of(st.none(), st.dictionaries(st.text(max_size=5), st.binary(max_size=5), max_size=3))


@st.composite
def records(draw: st.DrawFn) -> Records:
    values = draw(st.lists(PAYLOADS, min_size=1, max_size=30))
    count = len(values)
    times = draw(st.lists(INT64, min_size=count, max_size=count))
    keys = draw(st.one_of(st.none(), st.lists(st.one_of(st.none(), PAYLOADS), min_size=count, max_size=count)))
    headers = draw(st.one_of(st.none(), st.lists(HEADERS, min_size=count, max_size=count)))
    return Records(values=values, times_ms=np.array(times, dtype=np.int64), keys=keys, headers=headers)


def plain(records: Records) -> tuple[object, ...]:
    return (
        list(records.values),
        records.times_ms.tolist(),
        None if records.keys is None else list(records.keys),
        None if records.headers is None else [None if each is None else dict(each) for each in records.headers],
    )


@given(records())
def test_round_trip(given_records: Records) -> None:
    frame = encode_records(given_records)
    assert plain(decode_records(frame.body)) == plain(given_records)
    assert frame.count == len(given_records)
    assert (frame.time_min_ms, frame.time_max_ms) == (
        min(given_records.times_ms.tolist()),
        max(given_records.times_ms.tolist()),
    )


@given(records(), st.integers(1, 10), st.integers(1, 1000))
@settings(max_examples=50)
def test_frames_of_a_large_append_hold_all_of_it(given_records: Records, rows_max: int, bytes_max: int) -> None:
    limits = LogLimits(frame_rows_max=rows_max, frame_bytes_max=bytes_max)
    frames = frames_of(given_records, given_records.size_bytes, limits)
    parts = [decode_records(frame.body) for frame in frames]
    assert plain(concatenated(parts)) == plain(given_records)
    assert all(1 <= frame.count <= rows_max for frame in frames)


@given(records(), st.integers(0, 30), st.integers(0, 30))
def test_cutting(given_records: Records, start: int, stop: int) -> None:
    part = cut(given_records, start, stop)
    assert list(part.values) == list(given_records.values)[start:stop]
    assert part.times_ms.tolist() == given_records.times_ms.tolist()[start:stop]
