"""What calls inherit."""

import pytest

from penstock.core.calling import (
    Criticality,
    criticality,
    deadline,
    inherited_criticality,
    inherited_deadline_s,
    until,
)
from penstock.core.errors import InvalidInput


def test_an_inner_deadline_is_never_later_than_an_outer_one() -> None:
    assert inherited_deadline_s() is None
    with until(100.0):
        with until(200.0):
            assert inherited_deadline_s() == 100.0
        with until(50.0):
            assert inherited_deadline_s() == 50.0
        assert inherited_deadline_s() == 100.0
    assert inherited_deadline_s() is None


def test_the_innermost_criticality_counts() -> None:
    assert inherited_criticality() is None
    with criticality("SHEDDABLE"):
        assert inherited_criticality() == 4
        with criticality(1):
            assert inherited_criticality() == 1
        assert inherited_criticality() == 4
    assert inherited_criticality() is None


def test_both_are_left_with_what_raises() -> None:
    with pytest.raises(RuntimeError), deadline(1), criticality(3):
        raise RuntimeError
    assert (inherited_deadline_s(), inherited_criticality()) == (None, None)


@pytest.mark.parametrize("level", ["", "HIGH", "0", "1.0", 0, 5, True, 2.5, "²"])
def test_unknown_criticalities(level: str | int) -> None:
    with pytest.raises(InvalidInput, match="criticality"):
        Criticality.parse(level)


@pytest.mark.parametrize(
    ("level", "number"), [("critical_plus", 1), ("Critical", 2), ("SHEDDABLE_PLUS", 3), (4, 4), ("4", 4)]
)
def test_criticalities(level: str | int, number: int) -> None:
    assert Criticality.parse(level) == number


@pytest.mark.parametrize("timeout_s", [0, -1, float("nan")])
def test_deadlines_that_are_none(timeout_s: float) -> None:
    with pytest.raises(InvalidInput), deadline(timeout_s):
        raise AssertionError("not reached")
