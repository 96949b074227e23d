"""How much memory processes hold, and how seldom Python looks through it."""

import ctypes
import gc
import os
import resource
import sys
from collections.abc import Mapping
from pathlib import Path

__all__ = ["collect_seldom", "give_back_memory", "resident_bytes", "sparing_environment"]

ARENAS_MAX = "MALLOC_ARENA_MAX"
ARENAS = 2
"""One for the thread that answers, one for all that runs beside it."""
YOUNG_OBJECTS_MAX = 20_000
"""Each request, and each event, makes some dozen short-lived objects, and Python looks for cycles among them
every 700. There are none (errors lose their tracebacks for that). Looking rarely saves an eighth of a small
request's time, and a tenth of a stream's, with pauses of 25 ms."""


def resident_bytes(pid: int | None = None) -> int:
    """A process's resident memory in bytes (None: this one's).

    Where the system does not tell: the most that there ever was of this process, 0 of another.
    """
    try:
        pages = int(Path(f"/proc/{pid or 'self'}/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        if pid is not None:
            return 0
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return pages * os.sysconf("SC_PAGE_SIZE")


def collect_seldom() -> None:
    """For a process that has loaded all that it works with: what is there stays, and is not looked through."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS_MAX, 20, 50)


def give_back_memory() -> None:
    """Has the allocator give the system what it holds and nobody uses.

    Takes milliseconds, without Python's lock. Nothing where the C library cannot (glibc can: malloc_trim(3)).
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def sparing_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment in which the C library keeps few arenas (mallopt(3)), unless it says how many already.

    glibc gives each thread an arena of its own, up to eight a core, and what small objects keep of each is
    never given back: some sixteen threads of a worker held ten MiB more at rest, and more with every hour.
    """
    return {ARENAS_MAX: str(ARENAS)} | dict(environment)
