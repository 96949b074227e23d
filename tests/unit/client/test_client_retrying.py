"""Back-off and Retry-After."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.client.retrying import RetryPolicy, parse_retry_after_s
from penstock.core.errors import InvalidInput

NOW = datetime(2013, 4, 1, 12, tzinfo=UTC)


@given(
    st.integers(1, 10_000),
    st.floats(0, 1, exclude_max=True),
    st.floats(0, 10),
    st.floats(0, 60),
    st.none() | st.floats(0, 1e6),
)
def test_pauses_stay_within_their_bounds(
    retry: int, drawn: float, first_s: float, more_s: float, retry_after_s: float | None
) -> None:
    policy = RetryPolicy(first_s=first_s, longest_s=first_s + more_s)
    pause_s = policy.pause_s(retry, drawn, retry_after_s)
    least_s = retry_after_s or 0.0
    assert least_s <= pause_s <= least_s + min(policy.longest_s, first_s * 2.0 ** min(retry - 1, 1000)) + 1e-6


def test_the_bound_doubles_and_the_jitter_is_full() -> None:
    policy = RetryPolicy(first_s=0.1, longest_s=0.5)
    assert [policy.pause_s(retry, 1.0) for retry in (1, 2, 3, 4, 5)] == [0.1, 0.2, 0.4, 0.5, 0.5]
    assert [policy.pause_s(retry, 0.0) for retry in (1, 9)] == [0.0, 0.0]
    assert policy.pause_s(1, 0.5, 3.0) == 3.05


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("7", 7.0),
        (" 120 ", 120.0),
        ("9" * 400, float("inf")),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90.0),
        (format_datetime(NOW - timedelta(days=90), usegmt=True), 0.0),
        ("Monday, 01-Apr-13 12:00:05 GMT", 5.0),
        ("Mon Apr  1 12:00:05 2013", 5.0),
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("٣", None),
        ("Mon, 99 Foo 2013 12:00:05 GMT", None),
    ],
)
def test_retry_after(text: str | None, seconds: float | None) -> None:
    assert parse_retry_after_s(text, NOW) == seconds


@given(st.text())
def test_any_retry_after_is_seconds_or_nothing(text: str) -> None:
    seconds = parse_retry_after_s(text, NOW)
    assert seconds is None or seconds >= 0


@pytest.mark.parametrize(
    "values",
    [
        {"attempts_max": 0},
        {"first_s": -1},
        {"first_s": 3},
        {"longest_s": float("inf")},
        {"first_s": float("nan")},
    ],
)
def test_nonsense_is_refused(values: dict[str, float]) -> None:
    with pytest.raises(InvalidInput):
        RetryPolicy(**values)  # type: ignore[arg-type]
