"""The deadline that a request's headers ask for."""

from penstock.core.errors import InvalidInput, shown

__all__ = ["header_timeout_s"]


def header_timeout_s(headers: dict[bytes, bytes], default_s: float) -> float:
    """The time that a request may take, in seconds: `x-request-timeout-ms`, never more than the default.

    Raises `InvalidInput` for what is no number above 0.
    """
    asked_ms = headers.get(b"x-request-timeout-ms")
    if asked_ms is None:
        return default_s
    try:
        timeout_ms = float(asked_ms)
    except ValueError:
        timeout_ms = float("nan")
    if not timeout_ms > 0:
        raise InvalidInput(
            f"x-request-timeout-ms is {shown(asked_ms.decode('latin-1'))}, no number of milliseconds above 0",
            where="x-request-timeout-ms",
        )
    return min(default_s, timeout_ms / 1000.0)
