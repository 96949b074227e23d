"""Who goes first where the processor is short."""

import contextlib
import os
import sys
import threading

__all__ = ["stand_back"]

NICENESS_MAX = 19


def stand_back(steps: int) -> None:
    """The calling thread, and those it starts from now on, yield to others by so many steps of nice(1).

    Only Linux has that for single threads; elsewhere nothing changes.
    """
    if steps and sys.platform == "linux":
        thread = threading.get_native_id()
        with contextlib.suppress(OSError):
            now = os.getpriority(os.PRIO_PROCESS, thread)
            os.setpriority(os.PRIO_PROCESS, thread, min(now + steps, NICENESS_MAX))
