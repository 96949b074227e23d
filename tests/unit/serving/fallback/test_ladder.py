import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.errors import (
    DeadlineExceeded,
    InvalidInput,
    ModelFailed,
    NotFound,
    QuotaExceeded,
    Refused,
    TooLarge,
)
from penstock.serving.fallback.ladder import BELOW_S_MAX, BELOW_S_MIN, falls, slice_s

AT_ONCE = [False, False]
COMPUTES = [True, True]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (Refused("", reason="overload"), True),
        (Refused("", reason="breaker_open"), True),
        (DeadlineExceeded(""), True),
        (ModelFailed(""), True),
        (ValueError(""), True),
        (InvalidInput(""), False),
        (TooLarge(""), False),
        (QuotaExceeded("", reason="rate"), False),
        (NotFound(""), False),
    ],
)
def test_what_falls(error: Exception, expected: bool) -> None:
    assert falls(error) is expected


def test_what_a_rung_leaves() -> None:
    assert slice_s(1.0, []) == 1.0
    assert slice_s(0.4, AT_ONCE) == pytest.approx(0.38)
    assert slice_s(0.4, [*AT_ONCE, *COMPUTES]) == pytest.approx(0.3)
    assert slice_s(100.0, COMPUTES) == 99.0, "what takes longer than a second is no fallback"
    assert slice_s(0.02, AT_ONCE) == pytest.approx(0.015), "a timer has to be able to keep it"
    assert slice_s(0.002, COMPUTES) == 0.001, "half of next to nothing"
    assert slice_s(-1.0, COMPUTES) == 0.0


@given(remaining_s=st.floats(0, 1e6), below=st.lists(st.booleans(), min_size=1))
def test_every_rung_has_time_and_leaves_time(remaining_s: float, below: list[bool]) -> None:
    for place in range(len(below)):
        taken_s = slice_s(remaining_s, below[place:])
        assert remaining_s / 2 <= taken_s <= remaining_s
        assert remaining_s - taken_s <= BELOW_S_MAX
        assert remaining_s - taken_s >= min(remaining_s / 2, BELOW_S_MIN) * 0.999
        remaining_s -= taken_s
