"""What a process can still say when it is brought down: where each thread was, written by signal handlers in C.

They need no interpreter's lock: neither in a crash of native code, nor where a function holds that lock and
never gives it back, which no thread of Python could find out. For that there is a timer of the system: where
nobody puts it off, its signal ends the process.
"""

import faulthandler
import re
import signal
import sysconfig
from pathlib import Path

from penstock.streams.reasons import Reason
from penstock.streams.suspicion import Cause

__all__ = ["LastWords", "understood"]

_LIBRARY = (sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), str(Path(__file__).parents[1]))
_FRAME = re.compile(r'^  File "(.*)", line (\d+) in (.*)$', re.MULTILINE)
_FATAL = re.compile(r"^Fatal Python error: (.*)$", re.MULTILINE)
SILENT = "the process ended in it and could say nothing: killed, out of memory, or ended by itself"


class LastWords:
    """Of this process, which has only one: for the main program alone to make. The signal is SIGALRM."""

    def __init__(self, path: Path) -> None:
        """Raises `OSError`."""
        self._path = path
        self._file = path.open("wb")
        faulthandler.enable(self._file)
        # Chained to what the signal does otherwise: it ends the process.
        faulthandler.register(signal.SIGALRM, file=self._file, all_threads=True, chain=True)

    def expect(self, seconds: float) -> None:
        """To be called again within this time, or the process ends. 0 is never."""
        signal.setitimer(signal.ITIMER_REAL, seconds)

    def close(self) -> None:
        """It ends in peace."""
        self.expect(0)
        faulthandler.unregister(signal.SIGALRM)
        faulthandler.disable()
        self._file.close()
        self._path.unlink(missing_ok=True)


def understood(words: str, thread: int, timeout_s: float) -> Cause:
    """Why a process ended, and where in its functions its engine's thread was."""
    where = _where(words, thread)
    if not words.strip():
        return Cause(Reason.CRASHED, SILENT, told=False)
    if (fatal := _FATAL.search(words)) is not None:
        return Cause(Reason.CRASHED, f"{fatal[1]}{where}", told=True)
    detail = f"not done within {timeout_s:g} s, and held the interpreter's lock{where}"
    return Cause(Reason.HUNG, detail, told=True)


def _where(words: str, thread: int) -> str:
    """The innermost frame that is neither Python's, nor of a package, nor of Penstock; else the innermost."""
    frames = []
    for section in words.split("\n\n"):
        if f"{thread:#018x}" in section.partition("\n")[0]:
            frames = _FRAME.findall(section)
            break
    own = [frame for frame in frames if not frame[0].startswith(_LIBRARY)]
    for path, line, function in (own or frames)[:1]:
        return f", in {function} ({Path(path).name}, line {line})"
    return ""
