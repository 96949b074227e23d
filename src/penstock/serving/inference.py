"""A request to a model, whatever protocol it came by, and how important it is."""

import enum
from collections.abc import Mapping
from typing import NamedTuple

from penstock.core.errors import InvalidInput, shown
from penstock.core.tensors import Array

__all__ = ["DEFAULT_CRITICALITY", "Criticality", "Inference"]


class Criticality(enum.IntEnum):
    """How much is lost when a request is refused: the lower the number, the later it is.

    The four classes of the book "Site Reliability Engineering" (2016), chapter 21; V2's priorities 1 to 4.
    """

    CRITICAL_PLUS = 1
    CRITICAL = 2
    SHEDDABLE_PLUS = 3
    SHEDDABLE = 4

    @classmethod
    def parse(cls, text: str) -> "Criticality":
        """The class of a name, in upper or lower case, or of its number. Raises `InvalidInput`."""
        name = text.strip().upper()
        found = _NUMBERS.get(name) or cls.__members__.get(name)
        if found is None:
            names = ", ".join(each.name for each in cls)
            raise InvalidInput(
                f"x-criticality is {shown(text)}, which is no criticality",
                where="x-criticality",
                hint=f"it is one of {names}",
            )
        return found


_NUMBERS = {str(each.value): each for each in Criticality}

DEFAULT_CRITICALITY = Criticality.CRITICAL


class Inference(NamedTuple):
    """Inputs as they came off the wire, and what their caller said of them. Times are monotonic seconds.

    `deadline_s` is when nobody wants the answer any more; `due_s` by when it should be there, which is earlier
    where the caller named no deadline of its own. `caller` is who asks, as far as that is known. `wanted` are
    the outputs to give (None: all). `admitted`: whether it was decided already that it is taken on.
    `falls_back`: whether another rung of the model's ladder may answer, which is not what one wants who names a
    version.
    `retry`: its caller has asked before.
    """

    tensors: Mapping[str, Array]
    arrived_s: float
    deadline_s: float
    due_s: float | None = None
    criticality: int = DEFAULT_CRITICALITY
    caller: bytes = b""
    wanted: tuple[str, ...] | None = None
    admitted: bool = False
    falls_back: bool = False
    retry: bool = False
