"""What is asked for, how it is judged, and the status that the command ends with."""

import pytest

from penstock.core.errors import InvalidInput
from penstock.drills.surge.thresholds import Held, Judged, exit_code, parse_threshold

KNOWN = ("CRITICAL", "acme")


@pytest.mark.parametrize(
    ("text", "measured", "outcome"),
    [
        ("goodput>=0.95", 0.95, Held.HELD),
        ("goodput>=0.95", 0.949, Held.NOT_HELD),
        ("p99_ms <= 100", 100.0, Held.HELD),
        ("p99_ms<100", 100.0, Held.NOT_HELD),
        ("good[CRITICAL]>0.5", 0.6, Held.HELD),
        ("good[acme]>=1e-1", 0.05, Held.NOT_HELD),
        ("recovery_s<=1", None, Held.NOT_MEASURED),
    ],
)
def test_judging(text: str, measured: float | None, outcome: Held) -> None:
    threshold = parse_threshold(text, KNOWN)
    assert threshold.judge(measured) is outcome
    assert parse_threshold(threshold.text, KNOWN) == threshold


@pytest.mark.parametrize(
    "text",
    [
        *("", "goodput", "goodput=1", "speed>=1", "p99_ms<=fast", "p99_ms<=nan", "p99_ms<=inf"),
        *("good[acme", "good[nobody]>=1", "good[]>=1", "goodput[acme]>=1", "recovery_s[acme]<=1", "good>=1;"),
    ],
)
def test_what_is_no_threshold(text: str) -> None:
    with pytest.raises(InvalidInput, match="--require"):
        parse_threshold(text, KNOWN)


def judged(*outcomes: Held) -> tuple[Judged, ...]:
    return tuple(Judged(text="", meaning="", measured=0.0, outcome=outcome) for outcome in outcomes)


def test_exit_codes() -> None:
    assert exit_code((), trusted=True) == 0
    assert exit_code(judged(Held.HELD, Held.HELD), trusted=True) == 0
    assert exit_code(judged(Held.HELD, Held.NOT_HELD), trusted=True) == 1
    assert exit_code(judged(Held.NOT_HELD, Held.NOT_MEASURED), trusted=True) == 2
    assert exit_code(judged(Held.HELD), trusted=False) == 2
    assert exit_code((), trusted=False) == 2
