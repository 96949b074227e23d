"""Time that all processes of a machine agree on, and that does not step when the clock is set: leases, pauses
and retention go by it. What people read goes by the clock.
"""

from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Connection, delete, func, insert, select

from penstock.core.clock import Clock
from penstock.serving.jobs.job import to_us
from penstock.serving.jobs.tables import CLOCKS, KEEPERS

__all__ = ["read_steady_time", "started_steady_time", "this_start"]

START_FILE = Path("/proc/sys/kernel/random/boot_id")


def this_start() -> str:
    """What is another each time that the machine starts; empty where the system does not tell."""
    try:
        return START_FILE.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def read_steady_time(connection: Connection, start: str, clock: Clock) -> Callable[[], int] | None:
    """Microseconds since 1970, as the first process since this start of the machine had them, and what passed
    since then. None: none has had any. Where the system does not tell starts apart it is the clock's time.
    """
    if not start:
        return lambda: to_us(clock.now())
    offset_us = connection.scalar(select(CLOCKS.c.offset_us).where(CLOCKS.c.start == start))
    return None if offset_us is None else lambda: offset_us + _passed_us(clock)


def started_steady_time(connection: Connection, start: str, clock: Clock) -> Callable[[], int]:
    """The same, begun where nobody has; in a transaction that writes. It goes on from before the start, even
    where the clock was set back.
    """
    found = read_steady_time(connection, start, clock)
    if found is not None:
        return found
    before_us = connection.scalar(select(func.max(KEEPERS.c.until_us))) or 0
    offset_us = max(to_us(clock.now()), before_us) - _passed_us(clock)
    connection.execute(delete(CLOCKS))
    connection.execute(insert(CLOCKS).values(start=start, offset_us=offset_us))
    return lambda: offset_us + _passed_us(clock)


def _passed_us(clock: Clock) -> int:
    return int(clock.monotonic() * 1_000_000)
