"""An environment variable that an app file reads and nobody has set: told apart from other `KeyError`s."""

import os
import traceback
from types import TracebackType
from typing import NamedTuple

from penstock.core.errors import ConfigurationError, shown

__all__ = ["UnsetVariable"]

_READS = type(os.environ).__getitem__.__code__
"""What raises for `os.environ[...]`, and for `os.environ.pop(...)` too."""
_BETWEEN = ("collections.abc", "os")
"""Modules that stand between it and the line that asked."""


class UnsetVariable(NamedTuple):
    """The variable, and the file and line that read it."""

    name: str
    file: str
    line: int | None

    @classmethod
    def behind(cls, error: BaseException) -> "UnsetVariable | None":
        """The one that `error` was raised for; None where it is about something else."""
        if not isinstance(error, KeyError) or not error.args:
            return None
        reader: TracebackType | None = None
        last = error.__traceback__
        while last is not None and last.tb_next is not None:
            if last.tb_frame.f_globals.get("__name__") not in _BETWEEN:
                reader = last
            last = last.tb_next
        if reader is None or last is None or last.tb_frame.f_code is not _READS:
            return None
        (place,) = traceback.extract_tb(reader, limit=1)
        return cls(os.fsdecode(error.args[0]), place.filename, place.lineno)

    def error(self, whom: str) -> ConfigurationError:
        """What to tell of it; `whom` is what needs the variable."""
        return ConfigurationError(
            f"{whom} needs the environment variable {shown(self.name)}, which is not set; "
            f"it is read at {self.file}, line {self.line}",
            hint=f"set it where penstock is started: export {self.name}=…; or read it with "
            f"os.environ.get({self.name!r}, …) where a default will do",
        )
