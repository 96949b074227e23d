"""Whose turn it is to write, among all processes that have the log open.

SQLite's own lock is asked for again and again until it is free, each time after a longer sleep. Here a writer
sleeps until it is woken. Two files are locked: who waits for the second holds the first, so that whoever has
just written cannot take it again before the one who waits.
"""

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["WriteLock"]

FILE_NAMES = ("turn.lock", "write.lock")


class WriteLock:
    """A context that holds the lock. One for each thread that writes."""

    def __init__(self, folder: Path) -> None:
        """Raises `OSError`."""
        self._turn, self._write = (
            os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666) for name in FILE_NAMES
        )

    def __enter__(self) -> Self:
        fcntl.flock(self._turn, fcntl.LOCK_EX)
        try:
            fcntl.flock(self._write, fcntl.LOCK_EX)
        finally:
            fcntl.flock(self._turn, fcntl.LOCK_UN)
        return self

    def try_enter(self) -> bool:
        """Whether it was free, and is held now."""
        for descriptor in (self._turn, self._write):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                fcntl.flock(self._turn, fcntl.LOCK_UN)
                return False
        fcntl.flock(self._turn, fcntl.LOCK_UN)
        return True

    def leave(self) -> None:
        fcntl.flock(self._write, fcntl.LOCK_UN)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    def close(self) -> None:
        os.close(self._turn)
        os.close(self._write)
