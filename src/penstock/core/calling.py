"""What a call inherits from the one that it is made for: its deadline and its criticality.

Whoever handles a request sets them; a client that is used underneath reads them and passes them on, so that
nobody works for an answer that is not waited for any more. Source: gRPC's deadline propagation, and the
chapter on cascading failures in "Site Reliability Engineering" (Google, 2016).
"""

import enum
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from penstock.core.clock import SystemClock
from penstock.core.errors import InvalidInput, shown

__all__ = [
    "DEFAULT_CRITICALITY",
    "Criticality",
    "criticality",
    "deadline",
    "inherited_criticality",
    "inherited_deadline_s",
    "on_behalf_of",
    "until",
]


class Criticality(enum.IntEnum):
    """How much is lost when a request is refused: the lower the number, the later it is.

    The four classes of the book "Site Reliability Engineering" (2016), chapter 21; V2's priorities 1 to 4.
    """

    CRITICAL_PLUS = 1
    CRITICAL = 2
    SHEDDABLE_PLUS = 3
    SHEDDABLE = 4

    @classmethod
    def parse(cls, level: str | int, where: str = "criticality") -> "Criticality":
        """The class of a name, in upper or lower case, or of its number. Raises `InvalidInput`."""
        found: Criticality | None = None
        if isinstance(level, str):
            name = level.strip().upper()
            found = _NUMBERS.get(name) or cls.__members__.get(name)
        elif not isinstance(level, bool) and level in _VALUES:
            found = cls(level)
        if found is None:
            raise InvalidInput(
                f"{where} is {shown(level)}, which is no criticality",
                where=where,
                hint=f"it is one of {', '.join(cls.__members__)}, or 1 (the most important) to 4",
            )
        return found


_NUMBERS = {str(each.value): each for each in Criticality}
_VALUES = tuple(each.value for each in Criticality)

DEFAULT_CRITICALITY = Criticality.CRITICAL

_clock = SystemClock()
_deadline_s: ContextVar[float | None] = ContextVar("penstock_deadline_s", default=None)
_criticality: ContextVar[int | None] = ContextVar("penstock_criticality", default=None)


def inherited_deadline_s() -> float | None:
    """In monotonic seconds, None where there is none."""
    return _deadline_s.get()


def inherited_criticality() -> int | None:
    """1 (the most important) to 4, None where nobody said."""
    return _criticality.get()


@contextmanager
def deadline(timeout_s: float) -> Iterator[None]:
    """All calls inside it, together, may take so many seconds. Never longer than an outer one allows.

    Raises `InvalidInput` for what is no number above 0.
    """
    if not timeout_s > 0:
        raise InvalidInput(
            f"a deadline of {shown(timeout_s)} seconds", where="timeout_s", hint="give a number above 0"
        )
    with until(_clock.monotonic() + timeout_s):
        yield


@contextmanager
def until(deadline_s: float) -> Iterator[None]:
    """The same with the deadline itself, in monotonic seconds."""
    outer_s = _deadline_s.get()
    token = _deadline_s.set(deadline_s if outer_s is None else min(outer_s, deadline_s))
    try:
        yield
    finally:
        _deadline_s.reset(token)


@contextmanager
def criticality(level: str | int) -> Iterator[None]:
    """All calls inside it carry this criticality unless they name one: a name of `Criticality`, or 1 to 4.

    Raises `InvalidInput` for anything else.
    """
    token = _criticality.set(Criticality.parse(level))
    try:
        yield
    finally:
        _criticality.reset(token)


@contextmanager
def on_behalf_of(deadline_s: float, criticality: int) -> Iterator[None]:
    """All calls inside it are made for a request that is wanted until then, and so important (1 to 4)."""
    was_until = _deadline_s.set(deadline_s)
    was_critical = _criticality.set(criticality)
    try:
        yield
    finally:
        _criticality.reset(was_critical)
        _deadline_s.reset(was_until)
