"""How much memory processes hold, and how seldom Python looks through it."""

import ctypes
import gc
import os
import resource
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

__all__ = ["collect_seldom", "give_back_memory", "resident_bytes", "sparing_environment"]

ARENAS_MAX = "MALLOC_ARENA_MAX"
ARENAS = 2
"""One for the thread that answers, one for all that runs beside it."""
POKING_THREADS = 2 * ARENAS
POKE_BYTES = 100_000
"""Less than what malloc takes from the system by itself, and enough to have it look at the arena's end."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
MMAP_THRESHOLD_MOST = 32 * 1024 * 1024
"""The highest that glibc takes."""
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
    """Has the allocator give the system what it holds and nobody uses. Takes milliseconds.

    Nothing where the C library is not glibc, whose malloc_trim(3) this is about.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "malloc_trim"):
        return
    libc.malloc_trim(0)
    _give_back_tops(libc)


def _give_back_tops(libc: ctypes.CDLL) -> None:
    """malloc_trim leaves what lies at the end of a thread's arena: up to as much as the largest block that ever
    was freed, ten MiB after a batch of images. Only a free in that arena gives it back, where it is more than a
    threshold that glibc raises by itself. So that is lowered while threads, which share the arenas in turn,
    free a block each; then it is put where glibc would have it in the end.
    """
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.restype, libc.free.argtypes = None, [ctypes.c_void_p]
    together = threading.Barrier(POKING_THREADS)

    def poke() -> None:
        together.wait()
        libc.free(libc.malloc(POKE_BYTES))

    threads = [threading.Thread(target=poke, name="memory", daemon=True) for _ in range(POKING_THREADS)]
    libc.mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD_MOST)
    libc.mallopt(M_TRIM_THRESHOLD, POKE_BYTES)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        libc.mallopt(M_TRIM_THRESHOLD, 2 * MMAP_THRESHOLD_MOST)


def sparing_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment in which the C library keeps few arenas (mallopt(3)), unless it says how many already.

    glibc gives each thread an arena of its own, up to eight a core, and what small objects keep of each is
    never given back: some sixteen threads of a worker held ten MiB more at rest, and more with every hour.
    """
    return {ARENAS_MAX: str(ARENAS)} | dict(environment)
