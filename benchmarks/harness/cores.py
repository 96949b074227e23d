"""Which core the server gets and which the load, so that neither takes time from the other."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

__all__ = ["Cores", "Unpinnable", "pinned", "wait_until_quiet"]

QUIET_PERCENT = 10.0
QUIET_WAIT_S = 0.3
QUIET_WAITS_MAX = 30


class Unpinnable(Exception):
    """This machine cannot hold processes to cores, or has too few of them."""


@dataclass(frozen=True, kw_only=True)
class Cores:
    """The core of a server that has one, with all its children; the core of the load and of the harness itself;
    and those of a server that is free to use several: all but the load's, where that leaves two, else all.
    """

    server: int
    load: int
    wide: frozenset[int]

    @classmethod
    def available(cls) -> "Cores":
        if not hasattr(os, "sched_setaffinity"):
            raise Unpinnable("this system cannot pin a process to a core\nhint: run the benchmark on Linux")
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) < 2:
            raise Unpinnable("one core is not enough\nhint: allow two, one for the server and one for the load")
        wide = frozenset(cores) - {cores[1]} if len(cores) > 2 else frozenset(cores)
        return cls(server=cores[0], load=cores[1], wide=wide)


@contextmanager
def pinned(*cores: int) -> Iterator[None]:
    """Hold this thread to `cores`; a process started meanwhile, and all that it starts, inherits that."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def wait_until_quiet() -> None:
    """Returns when the machine has nothing to do, or after a bounded wait.

    What a system leaves behind for a while (Ray takes seconds to end its processes) must not be paid for by
    whichever comes next.
    """
    for _ in range(QUIET_WAITS_MAX):
        if psutil.cpu_percent(interval=QUIET_WAIT_S) < QUIET_PERCENT:
            return
