import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.errors import ConfigurationError
from penstock.serving.fallback.bulkhead import Bulkhead, BulkheadPermit


@given(limit=st.integers(1, 5), steps=st.lists(st.integers(-1, 20)))
def test_permits_are_conserved(limit: int, steps: list[int]) -> None:
    """-1 enters; any other number leaves by that permit, which may have been left before."""
    bulkhead = Bulkhead(limit)
    permits: list[BulkheadPermit] = []
    inside: set[int] = set()
    refused = 0
    for step in steps:
        if step == -1:
            permit = bulkhead.enter()
            assert (permit is None) is (len(inside) == limit)
            if permit is None:
                refused += 1
            else:
                inside.add(len(permits))
                permits.append(permit)
        elif step < len(permits):
            permits[step].leave()
            inside.discard(step)
        statistics = bulkhead.statistics()
        assert statistics.inside == len(inside) <= limit
        assert statistics.refused == refused
        assert len(inside) <= statistics.most <= limit


@pytest.mark.parametrize("limit", [0, -1])
def test_a_bulkhead_holds_something(limit: int) -> None:
    with pytest.raises(ConfigurationError, match=f"bulkhead of {limit}"):
        Bulkhead(limit)
