"""The deadline that a request's headers ask for."""

import contextlib

from penstock.core.errors import InvalidInput, shown

__all__ = ["header_timeout_s", "parse_timeout_s"]


def header_timeout_s(headers: dict[bytes, bytes], default_s: float) -> float:
    """The time that a request may take, in seconds: `x-request-timeout-ms`, never more than the default.

    Raises `InvalidInput` for what is no number above 0.
    """
    asked_ms = headers.get(b"x-request-timeout-ms")
    return default_s if asked_ms is None else min(default_s, parse_timeout_s(asked_ms.decode("latin-1")))


def parse_timeout_s(text: str) -> float:
    """What `x-request-timeout-ms` says over HTTP and gRPC, in seconds. Raises `InvalidInput`."""
    timeout_ms = float("nan")
    with contextlib.suppress(ValueError):
        timeout_ms = float(text)
    if not timeout_ms > 0:
        raise InvalidInput(
            f"x-request-timeout-ms is {shown(text)}, not a number of milliseconds above 0",
            where="x-request-timeout-ms",
        )
    return timeout_ms / 1000.0
