"""How a process that has written wakes those that wait for it, in other processes too.

A consumer has a named pipe in a folder beside the database and reads from it. While it waits, the pipe has a
second name in another folder; whoever has committed writes a byte into each that is there. A pipe that nobody
reads from cannot be opened for writing: that its consumer has died is seen at once, whatever it was killed by
and in whichever container it was.
"""

import errno
import os
import select
from contextlib import suppress
from pathlib import Path

__all__ = ["POLL_S_MAX", "Doorbell", "is_alive", "ring_all"]

MEMBERS, WAITING = "members", "waiting"
POLL_S_MAX = 0.1
"""A waiting consumer looks by itself so often, should nobody ring."""
_DRAIN_BYTES = 4096


class Doorbell:
    """One consumer's. Raises `OSError` where its pipe cannot be made."""

    def __init__(self, folder: Path, token: str) -> None:
        for name in (MEMBERS, WAITING):
            (folder / name).mkdir(exist_ok=True)
        self._path = folder / MEMBERS / token
        self._waiting = folder / WAITING / token
        hidden = folder / MEMBERS / f".{token}"
        os.mkfifo(hidden, 0o666)
        # For both: it does not wait for a writer, and is not at its end when the last one has gone.
        self._descriptor = os.open(hidden, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        hidden.rename(self._path)
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLIN)

    def listen(self) -> None:
        """From now on it is rung. Look once more before `wait`: what was written meanwhile did not ring."""
        with suppress(FileExistsError):
            os.link(self._path, self._waiting)

    def wait(self, timeout_s: float) -> bool:
        """Whether it was rung within that time, which is cut to 100 ms."""
        if not self._poll.poll(min(timeout_s, POLL_S_MAX) * 1000):
            return False
        with suppress(BlockingIOError):
            os.read(self._descriptor, _DRAIN_BYTES)
        return True

    def hush(self) -> None:
        with suppress(FileNotFoundError):
            self._waiting.unlink()

    def close(self) -> None:
        self.hush()
        with suppress(FileNotFoundError):
            self._path.unlink()
        os.close(self._descriptor)


def ring_all(folder: Path) -> None:
    """Wakes all who wait, and forgets those who have died."""
    waiting = folder / WAITING
    try:
        tokens = os.listdir(waiting)
    except FileNotFoundError:
        return
    for token in tokens:
        _ring(waiting / token)


def is_alive(folder: Path, token: str) -> bool:
    """Whether the consumer of that doorbell still runs, be it stopped. What a dead one left is removed."""
    path = folder / MEMBERS / token
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        if error.errno not in (errno.ENXIO, errno.ENOENT):
            return True  # nobody knows: its lease decides
        for name in (MEMBERS, WAITING):
            with suppress(OSError):
                (folder / name / token).unlink()
        return False
    return True


def _ring(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ENXIO:
            with suppress(OSError):
                path.unlink()
        return
    try:
        with suppress(BlockingIOError, BrokenPipeError):
            os.write(descriptor, b"\0")
    finally:
        os.close(descriptor)
