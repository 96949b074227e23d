from typing import Any

import pytest

from penstock.core.durations import duration_s, shown_ms
from penstock.core.errors import ConfigurationError


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("10m", 600),
        ("90s", 90),
        ("1.5h", 5400),
        ("2d", 172_800),
        ("250ms", 0.25),
        (" 5 s ", 5),
        (3, 3),
        (0.5, 0.5),
    ],
)
def test_durations(value: Any, seconds: float) -> None:
    assert duration_s(value, "x") == pytest.approx(seconds)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "10",
        "m",
        "-5s",
        "1e3s",
        "5 minutes",
        "٣s",
        "9" * 10_000 + "s",
        None,
        True,
        [],
        float("nan"),
        float("inf"),
        10**400,
    ],
)
def test_what_is_none(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"max_age is .*, not a time") as caught:
        duration_s(value, "max_age")
    assert len(caught.value.message) < 200


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0ms"), (1, "1ms"), (1500, "1500ms"), (60_000, "1m"), (90_000, "90s"), (172_800_000, "2d")],
)
def test_milliseconds_as_people_write_them(value: int, shown: str) -> None:
    assert shown_ms(value) == shown
    assert round(duration_s(shown, "it") * 1000) == value
