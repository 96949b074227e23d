import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.tensors import DataType, concatenate_rows
from penstock.features.reader import Reading
from penstock.features.view import Feature, FeatureView, KeyColumn
from penstock.serving.features.vectors import output_name, pack_vectors, read_vectors

WORDS = st.integers(-(2**63), 2**63 - 1)
ROW = st.tuples(WORDS, WORDS, st.booleans(), WORDS, WORDS, st.booleans(), *[st.booleans()] * 3)


def view(features: int = 0) -> FeatureView:
    kinds = (DataType.FP64, DataType.INT64, DataType.BOOL, *[DataType.BOOL] * features)
    return FeatureView(
        name="v",
        keys=(KeyColumn(name="k", datatype=DataType.STRING),),
        features=tuple(Feature(name=f"f{n}", datatype=kind, default=0) for n, kind in enumerate(kinds)),
        topic="t",
    )


def reading_of(rows: list[tuple]) -> Reading:
    """Any bits are a float, each NaN among them."""
    columns = list(zip(*rows, strict=True)) or [()] * 9
    positions, as_of, stale, floats, integers, flags, *defaulted = (np.array(each) for each in columns)
    values = [floats.astype(np.int64).view(np.float64), integers.astype(np.int64), flags.astype(np.bool_)]
    masks = [each.astype(np.bool_) for each in defaulted]
    return Reading(values, masks, positions.astype(np.int64), as_of.astype(np.int64), stale.astype(np.bool_))


@given(st.lists(ROW, max_size=6), st.lists(ROW, max_size=6), st.data())
def test_what_was_read_comes_back_bit_for_bit_from_batches_that_were_cut_and_joined(some, more, data):
    name = output_name(view())
    batch = concatenate_rows([{name: pack_vectors(reading_of(each))} for each in (some, more)])
    start = data.draw(st.integers(0, len(some) + len(more)))
    stop = data.draw(st.integers(start, len(some) + len(more)))

    found = read_vectors(view(), batch[name][start:stop])

    expected = reading_of((some + more)[start:stop])
    for mine, other in zip(
        [found.positions, found.as_of_ms, found.stale, *found.columns, *found.defaulted],
        [expected.positions, expected.as_of_ms, expected.stale, *expected.columns, *expected.defaulted],
        strict=True,
    ):
        assert (mine.dtype, mine.tobytes()) == (other.dtype, other.tobytes())


def test_a_view_of_as_many_features_as_there_may_be_keeps_its_bits_apart_from_staleness():
    of = view(60)
    masks = [np.array([number in (0, 62)]) for number in range(63)]
    columns = [np.zeros(1, each.datatype.numpy) for each in of.features]
    words = pack_vectors(
        Reading(columns, masks, np.zeros(1, np.int64), np.zeros(1, np.int64), np.array([False]))
    )

    found = read_vectors(of, words)

    assert [bool(mask[0]) for mask in found.defaulted] == [number in (0, 62) for number in range(63)]
    assert not found.stale[0]
