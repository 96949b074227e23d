"""A claim is met, short, or not judged."""

import pytest
from benchmarks.harness.figure import Claim


@pytest.mark.parametrize(
    ("claim", "met"),
    [
        (Claim(name="a", value=2.0, at_least=2.0), True),
        (Claim(name="a", value=1.99, at_least=2.0), False),
        (Claim(name="a", value=0.0, at_most=0.0), True),
        (Claim(name="a", value=1.0, at_most=0.0), False),
        (Claim(name="a", value=None, at_most=0.0), None),
    ],
)
def test_claims(claim, met):
    assert claim.met is met
