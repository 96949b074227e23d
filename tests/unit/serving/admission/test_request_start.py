"""The oracle counts in whole microseconds, and writes them as the senders do, digit by digit."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.serving.admission.request_start import parse_request_start_s

MOMENTS_US = st.integers(200_000_000_000_000, 90_000_000_000_000_000)  # from 1976 to 4821


@given(MOMENTS_US, st.sampled_from([b"", b"t="]))
def test_every_unit_is_told_from_the_others(moment_us, prefix):
    digits = b"%d" % moment_us
    written = {
        digits[:-6]: 1_000_000,  # seconds
        digits[:-6] + b"." + digits[-6:-3]: 1000,  # nginx's $msec
        digits[:-6] + b"." + digits[-6:]: 1,
        digits[:-3]: 1000,  # Heroku
        digits[:-3] + b"." + digits[-3:]: 1,
        digits: 1,  # Apache's %t
        digits + b"000": 1,  # nanoseconds
    }
    for value, precision_us in written.items():
        found = parse_request_start_s(prefix + value)
        meant_us = moment_us // precision_us * precision_us
        assert found is not None
        assert abs(found - meant_us / 1e6) <= 1e-5 + 2e-16 * found, value


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"t=",
        b"soon",
        b"-1385212475.5",
        b"+1385212475.5",
        b"1385212475,5",
        b"1385212475.",
        b".5",
        b"1e9",
        b"nan",
        b"inf",
        b" 1385212475",
        b"t=1385212475 t=1385212476",
        b"T=1385212475",
        b"13852\xb212475",
        b"9" * 21,
        b"99999999999999999999",
        b"1" * 100_000,
        b"1385212475\n",
    ],
)
def test_what_is_no_time(value):
    assert parse_request_start_s(value) is None


@given(st.one_of(st.binary(max_size=40), st.from_regex(rb"(t=)?[0-9.]{0,30}", fullmatch=True)))
def test_whatever_comes_it_is_a_time_or_none(value):
    found = parse_request_start_s(value)
    assert found is None or (found >= 0.0 and math.isfinite(found))
