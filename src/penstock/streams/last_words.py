"""What a process can still say when it is brought down: where it was, written by signal handlers in C.

They need no interpreter's lock: neither in a crash of native code, nor where a function holds that lock and
never gives it back, which no thread of Python could find out. For that there is a timer of the system: where
nobody puts it off, its signal ends the process. The engine's thread gets it, and tells of itself alone: where
others are cannot be read safely while they run, as they do once a process that was stopped goes on.
"""

import contextlib
import faulthandler
import re
import signal
import sysconfig
from pathlib import Path

from penstock.streams.reasons import Reason
from penstock.streams.suspicion import Cause
from penstock.streams.thread_timer import ThreadTimer

__all__ = ["LastWords", "raised_words", "understood"]

_LIBRARY = (sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), str(Path(__file__).parents[1]))
_FRAME = re.compile(r'^  File "(.*)", line (\d+) in (.*)$', re.MULTILINE)
_FATAL = re.compile(r"^Fatal Python error: (.*)$", re.MULTILINE)
_CURRENT = re.compile(r"^Current thread (0x[0-9a-f]+)", re.MULTILINE)
_RAISED = re.compile(r"^Raised: (.*)$", re.MULTILINE)
SILENT = "the process ended in it and could say nothing: killed, out of memory, or ended by itself"


class LastWords:
    """Of this process, which has only one: for the main program alone to make, in the engine's thread. The
    signal is SIGALRM.
    """

    def __init__(self, path: Path) -> None:
        """Raises `OSError`."""
        self._path = path
        self._file = path.open("wb")
        faulthandler.enable(self._file)
        self._timer: ThreadTimer | None = None
        with contextlib.suppress(OSError):
            self._timer = ThreadTimer(signal.SIGALRM)
        # Chained to what the signal does otherwise: it ends the process. Where the system cannot be told which
        # thread gets it, all of them are told of, which may crash.
        faulthandler.register(signal.SIGALRM, file=self._file, all_threads=self._timer is None, chain=True)

    def expect(self, seconds: float) -> None:
        """To be called again within this time, or the process ends. 0 is never."""
        if self._timer is not None:
            self._timer.set(seconds)
        else:
            signal.setitimer(signal.ITIMER_REAL, seconds)

    def close(self) -> None:
        """It ends in peace."""
        self.expect(0)
        self.leave()
        self._path.unlink(missing_ok=True)

    def leave(self) -> None:
        """Of a process that was forked: they are its parent's, which does not end with it."""
        faulthandler.unregister(signal.SIGALRM)
        faulthandler.disable()
        with contextlib.suppress(OSError):
            self._file.close()


def understood(words: str, thread: int, timeout_s: float) -> Cause:
    """Why a process ended, and where in its functions its engine's thread was.

    A fatal signal of another thread is as little the doing of what was at work as one from outside. Where the
    thread is none that Python knows, no section is the current one.
    """
    where = _where(words, thread)
    if not words.strip():
        return Cause(Reason.CRASHED, SILENT, told=False)
    if (fatal := _FATAL.search(words)) is not None:
        current = _CURRENT.search(words)
        if current is None or int(current[1], 16) != thread:
            other = "" if current is None else ", in another thread"
            return Cause(Reason.CRASHED, f"{fatal[1]}{other}", told=False)
        return Cause(Reason.CRASHED, f"{fatal[1]}{where}", told=True)
    if (raised := _RAISED.search(words)) is not None:
        return Cause(Reason.CRASHED, f"the engine ended by {raised[1]}", told=False)
    detail = f"not done within {timeout_s:g} s, and held the interpreter's lock{where}"
    return Cause(Reason.HUNG, detail, told=True)


def raised_words(error: BaseException) -> str:
    """The last words of an engine that ended by that, as `understood` understands them."""
    return f"Raised: {' '.join(f'{type(error).__name__}: {error}'.split())}\n"


def _where(words: str, thread: int) -> str:
    """The innermost frame that is neither Python's, nor of a package, nor of Penstock; else the innermost."""
    frames = []
    for section in words.split("\n\n"):
        head = section.partition("\n")[0]
        if head.startswith("Stack ") or f"{thread:#018x}" in head:
            frames = _FRAME.findall(section)
            break
    own = [frame for frame in frames if not frame[0].startswith(_LIBRARY)]
    for path, line, function in (own or frames)[:1]:
        return f", in {function} ({Path(path).name}, line {line})"
    return ""
