"""`X-Request-Start`: when the first machine of ours had the request, as whoever passed it on wrote it.

Nobody agrees on the unit: nginx and others send `t=` and seconds with a fraction, Apache `t=` and microseconds,
Heroku bare milliseconds. It is told by the magnitude: from 1973 to 5138 they do not overlap.
"""

import re

__all__ = ["REQUEST_START", "WAITED_S_MAX", "parse_request_start_s"]

REQUEST_START = b"x-request-start"
WAITED_S_MAX = 60.0
"""Whoever seems to have waited longer has passed a clock that is wrong."""
SECONDS_MAX = 1e11
UNITS_A_SECOND = (1.0, 1e3, 1e6, 1e9)
_TIME = re.compile(rb"(?:t=)?([0-9]{1,20}(?:\.[0-9]{1,9})?)")


def parse_request_start_s(value: bytes) -> float | None:
    """Seconds since 1970; None for what is no time."""
    found = _TIME.fullmatch(value)
    if found is None:
        return None
    number = float(found[1])
    for units in UNITS_A_SECOND:
        if number < SECONDS_MAX * units:
            return number / units
    return None
