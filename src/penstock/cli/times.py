"""Times as the commands print them."""

from datetime import UTC, datetime, timedelta

__all__ = ["time_text"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def time_text(time_ms: int) -> str:
    """In UTC, as `--from` takes it; as a number where it is none that a calendar has."""
    try:
        time = _EPOCH + timedelta(milliseconds=time_ms)
    except OverflowError:
        return f"{time_ms} ms"
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
