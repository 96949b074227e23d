"""Which loaded versions may stay: a memory budget, from which what no route wants goes first."""

from collections.abc import Sequence

import msgspec

__all__ = ["KEPT_MAX", "Resident", "evictions"]

KEPT_MAX = 2
"""Versions of one model that stay loaded though no route wants them any more."""


class Resident(msgspec.Struct, frozen=True, kw_only=True):
    """A loaded version. `used_s` is when it was last of use, in monotonic seconds."""

    model: str
    version: str
    memory_bytes: int
    wanted: bool
    used_s: float


def evictions(
    residents: Sequence[Resident], budget_bytes: int, needed_bytes: int = 0
) -> tuple[list[Resident], bool]:
    """What to unload so that `needed_bytes` more fit, least recently used first; and whether they then do.

    What is wanted stays. Of the rest at most `KEPT_MAX` versions a model stay, whatever room there is.
    """
    held_bytes = sum(resident.memory_bytes for resident in residents)
    leaving: list[Resident] = []
    kept: dict[str, int] = {}
    unwanted = sorted((each for each in residents if not each.wanted), key=_used_s, reverse=True)
    for resident in unwanted:
        kept[resident.model] = kept.get(resident.model, 0) + 1
        if kept[resident.model] > KEPT_MAX:
            leaving.append(resident)
            held_bytes -= resident.memory_bytes
    for resident in reversed(unwanted):
        if held_bytes + needed_bytes <= budget_bytes:
            break
        if resident not in leaving:
            leaving.append(resident)
            held_bytes -= resident.memory_bytes
    return leaving, held_bytes + needed_bytes <= budget_bytes


def _used_s(resident: Resident) -> float:
    return resident.used_s
