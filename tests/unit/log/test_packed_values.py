"""Values that lie end to end are as a list of them, however they are sliced, joined and written."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.log.embedded.codec import decode_records, encode_records
from penstock.log.packed_values import PackedValues, Run
from penstock.log.records import Records, concatenated, cut

values_of_several = st.lists(st.lists(st.binary(max_size=5), min_size=1, max_size=8), min_size=1, max_size=4)


def run_of(values: list[bytes], before: bytes = b"") -> Run:
    """With other bytes before and behind them."""
    bounds = np.cumsum([len(before), *map(len, values)])
    return Run(before + b"".join(values) + b"rest", bounds.astype(np.int64))


@given(values_of_several, st.slices(32))
def test_it_is_a_list(several: list[list[bytes]], part: slice) -> None:
    wanted = [value for values in several for value in values]
    packed = PackedValues([run_of(values, b"head") for values in several])
    assert list(packed) == wanted
    assert len(packed) == len(wanted)
    assert packed.size_bytes == sum(map(len, wanted))
    assert packed.lengths().tolist() == [len(value) for value in wanted]
    part = slice(*part.indices(len(wanted)))
    assert packed[part] == wanted[part]
    assert packed[part].size_bytes == sum(map(len, wanted[part])) if part.step == 1 else True  # type: ignore[attr-defined]
    assert [packed[place] for place in range(-len(wanted), len(wanted))] == wanted * 2
    assert packed != [*wanted, b""]


@given(values_of_several, st.integers(0, 8), st.integers(0, 8))
def test_what_is_read_can_be_cut_joined_and_written_again(
    several: list[list[bytes]], start: int, end: int
) -> None:
    parts = []
    for number, values in enumerate(several):
        times_ms = np.full(len(values), number, dtype=np.int64)
        parts.append(decode_records(encode_records(Records(values=values, times_ms=times_ms)).body))
    joined = concatenated([cut(part, min(start, len(part) - 1), max(end, start + 1)) for part in parts])
    wanted = [
        value for values in several for value in values[min(start, len(values) - 1) : max(end, start + 1)]
    ]
    assert isinstance(joined.values, PackedValues)
    again = decode_records(encode_records(joined).body)
    assert joined.values == again.values == wanted
    assert joined.size_bytes == again.size_bytes == sum(map(len, wanted))


def test_beside_others_they_are_cut() -> None:
    packed = Records(values=PackedValues([run_of([b"a", b""])]), times_ms=np.zeros(2, dtype=np.int64))
    plain = Records(values=[b"c"], times_ms=np.zeros(1, dtype=np.int64))
    assert list(concatenated([packed, plain]).values) == [b"a", b"", b"c"]


def test_without_any() -> None:
    assert list(PackedValues([])) == list(PackedValues([run_of([b"a"])])[1:]) == []
    assert PackedValues([]).lengths().tolist() == []
    with pytest.raises(IndexError):
        PackedValues([])[0]


@given(st.lists(st.binary(max_size=6).map(lambda value: value.replace(b"\n", b" ")), max_size=9))
def test_lines_are_values(values: list[bytes]) -> None:
    run = Run.of_lines(b"".join(value + b"\n" for value in values))
    assert run.cut() == values
    assert bytes(run.whole()) == b"".join(values)
