from datetime import UTC, datetime, timedelta

import pytest

from penstock.core.clock import ManualClock, SystemClock


def test_manual_clock_stands_still_until_it_is_moved() -> None:
    clock = ManualClock(start=datetime(2020, 2, 28, 23, 59, 59, tzinfo=UTC))
    assert (clock.monotonic(), clock.monotonic()) == (0.0, 0.0)
    clock.advance(1.5)
    clock.advance(0)
    assert clock.monotonic() == 1.5
    assert clock.now() == datetime(2020, 2, 29, 0, 0, 0, 500_000, tzinfo=UTC)


def test_manual_clock_does_not_go_back() -> None:
    with pytest.raises(AssertionError):
        ManualClock().advance(-1e-9)


def test_system_clock() -> None:
    clock = SystemClock()
    readings = [clock.monotonic() for _ in range(100)]
    assert readings == sorted(readings)
    assert clock.now().utcoffset() == timedelta(0)
