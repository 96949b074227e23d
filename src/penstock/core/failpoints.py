"""Places at which a process can be made to fail, for tests of what a crash leaves behind.

Inert unless the environment has `PENSTOCK_FAILPOINT=name:count:kill|raise|stop` when the process starts: the
`count`th time that the place is passed, the process is killed, the place raises, or the process is stopped.
"""

import os
import signal
from dataclasses import dataclass

from penstock.core.errors import ConfigurationError, StorageFailed, shown

__all__ = ["FAILPOINT_VARIABLE", "Failpoints", "failpoints_of"]

FAILPOINT_VARIABLE = "PENSTOCK_FAILPOINT"

_HOWS = ("kill", "raise", "stop")


@dataclass(frozen=True, kw_only=True)
class _Armed:
    name: str
    count: int
    how: str


class Failpoints:
    """The places of one process. `pass_by` costs next to nothing where none is armed."""

    def __init__(self, armed: tuple[str, int, str] | None = None) -> None:
        self._armed = _Armed(name=armed[0], count=armed[1], how=armed[2]) if armed is not None else None
        self._passed = 0

    def pass_by(self, name: str) -> None:
        """Raises `StorageFailed`, stops or kills the process where it is armed for this."""
        armed = self._armed
        if armed is None or armed.name != name:
            return
        self._passed += 1
        if self._passed != armed.count:
            return
        if armed.how == "raise":
            raise StorageFailed(f"failpoint {name!r} was told to fail here")
        os.kill(os.getpid(), signal.SIGKILL if armed.how == "kill" else signal.SIGSTOP)


def failpoints_of(value: str | None) -> Failpoints:
    """As the variable's value says; None or "" arms nothing. Raises `ConfigurationError` for another."""
    if not value:
        return Failpoints()
    parts = value.split(":")
    if len(parts) != 3 or not parts[1].isdecimal() or int(parts[1]) < 1 or parts[2] not in _HOWS:
        raise ConfigurationError(
            f"{FAILPOINT_VARIABLE} is {shown(value)}", hint='write name:count:how, as in "commit:3:kill"'
        )
    return Failpoints((parts[0], int(parts[1]), parts[2]))
