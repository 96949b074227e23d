"""Which core the server gets and which the load, so that neither takes time from the other."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

__all__ = ["Cores", "Unpinnable", "pinned"]


class Unpinnable(Exception):
    """This machine cannot hold processes to cores, or has too few of them."""


@dataclass(frozen=True, kw_only=True)
class Cores:
    """The core of the server with all its children, and the core of the load and of the harness itself."""

    server: int
    load: int

    @classmethod
    def available(cls) -> "Cores":
        if not hasattr(os, "sched_setaffinity"):
            raise Unpinnable("this system cannot pin a process to a core\nhint: run the benchmark on Linux")
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) < 2:
            raise Unpinnable("one core is not enough\nhint: allow two, one for the server and one for the load")
        return cls(server=cores[0], load=cores[1])


@contextmanager
def pinned(*cores: int) -> Iterator[None]:
    """Hold this thread to `cores`; a process started meanwhile, and all that it starts, inherits that."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
