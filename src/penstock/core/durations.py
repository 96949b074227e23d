"""Durations as people write them."""

import re

from penstock.core.errors import ConfigurationError, shown

__all__ = ["duration_s", "shown_ms"]

_S_MAX = 1e15
"""No time, and within what a float holds: an integer may not be."""
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_NOTATION = re.compile(r"\s*(\d{1,12}(?:\.\d{1,9})?)\s*(ms|s|m|h|d)\s*", re.ASCII)


def duration_s(value: object, what: str) -> float:
    """Seconds: of a number of them, or of a number with its unit, as in "90s", "10m", "1.5h".

    Raises `ConfigurationError` for anything else, saying `what` it was for. Whether it is above 0 is the
    caller's to say.
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _S_MAX:
        return float(value)
    match = _NOTATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ConfigurationError(
            f"{what} is {shown(value)}, not a time",
            hint='write a number with its unit, ms, s, m, h or d, as in "10m"; a bare number is seconds',
        )
    return float(match[1]) * _UNITS_S[match[2]]


def shown_ms(value: float) -> str:
    """Milliseconds as people write them: in the largest unit of which they are a whole number."""
    for unit in ("d", "h", "m", "s"):
        count = value / (1000 * _UNITS_S[unit])
        if value and count == int(count):
            return f"{int(count)}{unit}"
    return f"{value}ms"
