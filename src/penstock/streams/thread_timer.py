"""A timer of the system whose signal one thread gets, and no other.

Python's own (`signal.setitimer`) is the process's, of which the system takes the main thread. Linux lets one
name the thread: SIGEV_THREAD_ID of timer_create(2).
"""

import ctypes
import os
import sys
import threading

__all__ = ["ThreadTimer"]

CLOCK_MONOTONIC = 1
SIGEV_THREAD_ID = 4


class _Event(ctypes.Structure):
    """`struct sigevent`, of 64 bytes."""

    _fields_ = (
        ("value", ctypes.c_void_p),
        ("signal", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("thread", ctypes.c_int),
        ("rest", ctypes.c_char * (64 - 3 * 4 - ctypes.sizeof(ctypes.c_void_p))),
    )


class _Time(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Times(ctypes.Structure):
    """`struct itimerspec`."""

    _fields_ = (("interval", _Time), ("value", _Time))


class ThreadTimer:
    """For the thread that makes it; `set` may be called from any. It is there as long as the process, and in no
    child that is forked.
    """

    def __init__(self, signal_number: int) -> None:
        """Raises `OSError` where the system has no such timers."""
        self._library = _library()
        event = _Event(signal=signal_number, notify=SIGEV_THREAD_ID, thread=threading.get_native_id())
        self._timer = ctypes.c_void_p()
        self._check(self._library.timer_create(CLOCK_MONOTONIC, ctypes.byref(event), ctypes.byref(self._timer)))

    def set(self, seconds: float) -> None:
        """The signal comes after so long, unless it is set anew before that. 0 is never."""
        whole = int(seconds)
        times = _Times(value=_Time(whole, int((seconds - whole) * 1e9)))
        self._check(self._library.timer_settime(self._timer, 0, ctypes.byref(times), None))

    def _check(self, result: int) -> None:
        if result:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))


def _library() -> ctypes.PyDLL:
    """The one that has the timers: that of C, or of older ones another. It is called with the interpreter's
    lock, as what it does takes less time than to hand that over.
    """
    if sys.platform != "linux":
        raise OSError("timers of threads are Linux's")
    for name in (None, "librt.so.1"):
        library = ctypes.PyDLL(name, use_errno=True)
        if hasattr(library, "timer_create"):
            return library
    raise OSError("the system's library has no timers")
