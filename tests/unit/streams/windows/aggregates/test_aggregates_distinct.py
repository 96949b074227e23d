import numpy as np
import polars as pl
import pytest

from penstock.core.errors import ConfigurationError, InvalidInput
from penstock.streams.windows.aggregates.distinct import Distinct, hashes_of
from penstock.streams.windows.aggregates.sketch import WEIGHT_BITS, Entries, Marks, entries_of


def entries(sketch: Distinct, series: pl.Series) -> Entries:
    packed, valid = sketch.marks(series)
    packed = packed if valid is None else packed[valid]
    parts = Entries(np.zeros(len(packed), np.int64), packed >> WEIGHT_BITS, packed & ((1 << WEIGHT_BITS) - 1))
    return entries_of([parts], sketch)


@pytest.mark.parametrize("count", [1, 10, 1000, 8_000, 50_000, 1_000_000])
def test_estimates_are_near(count: int) -> None:
    sketch = Distinct("v")
    values, _, _ = sketch.estimate(entries(sketch, pl.int_range(count, eager=True)), 1)
    assert values[0] == pytest.approx(count, rel=0.05, abs=0.5)


def test_hashes_never_change() -> None:
    """They stand in stored state: these are their values for good."""
    texts = hashes_of(pl.Series(["", "JFK", None]))
    assert texts.tolist()[:2] == [0xB4B2797457A0A6E4, 0x02B592A2B105FCBC]
    assert hashes_of(pl.Series([0, 1])).tolist() == [0xE220A8397B1DCDAF, 0x910A2DEC89025CC1]


def test_equal_numbers_of_any_type_are_one_value() -> None:
    sketch = Distinct("v")
    whole = [pl.Series([3, 4], dtype=dtype) for dtype in (pl.Int8, pl.UInt64, pl.Float32, pl.Float64)]
    assert all((hashes_of(series) == hashes_of(whole[0])).all() for series in whole)
    assert (hashes_of(pl.Series([0.0])) == hashes_of(pl.Series([-0.0]))).all()
    values, _, _ = sketch.estimate(entries(sketch, pl.Series([1.5, 1.5, None, 2.5])), 1)
    assert values.tolist() == [2]


def test_as_of_rows_grows_with_them() -> None:
    sketch = Distinct("v")
    packed, _ = sketch.marks(pl.Series(["a", "b", "a", "c", "a"]))
    marks = Marks(
        groups=np.array([0, 0, 0, 1, 1]),
        buckets=packed >> WEIGHT_BITS,
        weights=packed & ((1 << WEIGHT_BITS) - 1),
        valid=np.array([True, True, True, False, True]),
    )
    before = entries(sketch, pl.Series(["b", "z"]))
    assert sketch.estimate_rows(before, marks, inclusive=True)[0].tolist() == [3, 3, 3, 0, 1]
    assert sketch.estimate_rows(before, marks, inclusive=False)[0].tolist() == [2, 3, 3, 0, 0]


def test_what_cannot_be_counted() -> None:
    with pytest.raises(ConfigurationError, match="precision"):
        Distinct("v", precision=20)
    with pytest.raises(InvalidInput, match="cannot be counted"):
        hashes_of(pl.Series("v", [[1]]))
