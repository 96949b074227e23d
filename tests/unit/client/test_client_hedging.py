"""When a hedge is sent: the quantile against numpy's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.client.hedging import OBSERVED_MAX, OBSERVED_MIN, HedgePolicy, LatencyQuantile
from penstock.core.errors import InvalidInput

latencies = st.lists(st.floats(0, 10), min_size=OBSERVED_MIN, max_size=OBSERVED_MAX + 200)


@given(latencies, st.floats(0.5, 0.99))
def test_the_quantile_is_that_of_the_latest(seen: list[float], quantile: float) -> None:
    observed = LatencyQuantile()
    for latency_s in seen:
        observed.add(latency_s)
    latest = np.sort(seen[-OBSERVED_MAX:])
    assert observed.value_s(quantile) == latest[int(quantile * len(latest))]


def test_too_few_answers_say_nothing() -> None:
    observed = LatencyQuantile()
    for _ in range(OBSERVED_MIN - 1):
        observed.add(1.0)
    assert HedgePolicy().delay_s(observed) is None
    assert HedgePolicy(after_s=0.2).delay_s(observed) == 0.2
    observed.add(1.0)
    assert HedgePolicy().delay_s(observed) == 1.0


@pytest.mark.parametrize(
    "values", [{"after_s": -1}, {"after_s": float("nan")}, {"quantile": 1.0}, {"quantile": 0.1}]
)
def test_nonsense_is_refused(values: dict[str, float]) -> None:
    with pytest.raises(InvalidInput):
        HedgePolicy(**values)
