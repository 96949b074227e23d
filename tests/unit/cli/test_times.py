from datetime import UTC, datetime

from penstock.cli.times import time_text


def test_a_time_can_be_read_back() -> None:
    assert time_text(1_357_038_000_007) == "2013-01-01T11:00:00.007Z"
    assert datetime.fromisoformat(time_text(-1)) == datetime(1969, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)
    assert time_text(2**62) == "4611686018427387904 ms"
