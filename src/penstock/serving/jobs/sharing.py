"""Who is next: tenants by turns, each with its job that has waited longest of a model that has room.

What one model or tenant may have is bound by what is free (A. Choudhury, E. Hahne, "Dynamic queue length
thresholds for shared-memory packet switches", 1998), so that whoever comes finds room.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

__all__ = ["Waiting", "choose", "share_of"]

FREE_SHARES = 3
"""One may have so many times what is left free: three quarters, where it is alone."""


class Waiting(NamedTuple):
    """A job that is due."""

    due_us: int
    number: int
    model: str


def share_of(free: int, running: int) -> int:
    """How many more one may begin that has so many, where so many places are free for all."""
    return max(0, min(free, -((running - FREE_SHARES * free) // (FREE_SHARES + 1))))


def choose(
    waiting: Mapping[str, Sequence[Waiting]],
    room: int,
    of_tenants: Mapping[str, int],
    of_models: Mapping[str, int],
    of_others: int,
) -> list[int]:
    """The numbers of at most `room` jobs, of tenants in the order given. A tenant or model that is not among
    those named has room for `of_others`.
    """
    lines = {tenant: iter(sorted(jobs)) for tenant, jobs in waiting.items()}
    tenants, models = dict(of_tenants), dict(of_models)
    chosen: list[int] = []
    while lines:
        for tenant, line in list(lines.items()):
            left = tenants.setdefault(tenant, of_others)
            job = next((each for each in line if models.setdefault(each.model, of_others) > 0), None)
            if job is None or left <= 0:
                del lines[tenant]
                continue
            if len(chosen) == room:
                return chosen
            chosen.append(job.number)
            tenants[tenant] -= 1
            models[job.model] -= 1
    return chosen
