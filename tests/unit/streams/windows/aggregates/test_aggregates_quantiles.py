import numpy as np
import polars as pl
import pytest

from penstock.core.errors import ConfigurationError, InvalidInput
from penstock.streams.windows.aggregates.quantiles import Quantile, Quantiles, bucket_of, middle_of
from penstock.streams.windows.aggregates.sketch import WEIGHT_BITS, Entries, entries_of


def test_every_value_is_within_the_accuracy_of_its_bucket() -> None:
    values = np.concatenate([10.0 ** np.linspace(-12, 15, 5001), -(10.0 ** np.linspace(-12, 15, 5001)), [0.0]])
    np.testing.assert_allclose(middle_of(bucket_of(values)), values, rtol=0.010001)
    ascending = np.sort(values)
    assert (np.diff(bucket_of(ascending)) >= 0).all()


def test_values_out_of_range_count_as_the_nearest_in_it() -> None:
    found = middle_of(bucket_of(np.array([1e300, -np.inf, 1e-300])))
    np.testing.assert_allclose(found, [1e15, -1e15, 0.0], rtol=0.010001)


@pytest.mark.parametrize("q", [0.0, 0.01, 0.5, 0.99, 1.0])
def test_quantiles_of_groups(q: float) -> None:
    generator = np.random.default_rng(5)
    values = np.concatenate([generator.lognormal(size=3000), generator.normal(size=2000)])
    groups = np.repeat([0, 2], [3000, 2000])
    packed, _ = Quantiles("v").marks(pl.Series(values))
    parts = Entries(groups, packed >> WEIGHT_BITS, np.ones(len(values), np.int64))
    found, present, _ = Quantile("v", q).estimate(entries_of([parts], Quantiles("v")), 3)
    assert present is not None
    assert present.tolist() == [True, False, True]
    for group in (0, 2):
        exact = np.quantile(values[groups == group], q, method="lower")
        assert found[group] == pytest.approx(exact, rel=0.0101)


def test_what_has_no_quantiles() -> None:
    with pytest.raises(ConfigurationError, match="share"):
        Quantile("v", 99)
    with pytest.raises(InvalidInput, match="no quantiles"):
        Quantiles("v").marks(pl.Series("v", ["x"]))
