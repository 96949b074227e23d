"""What an app file promises for its models."""

import msgspec

from penstock.core.errors import ConfigurationError, shown

__all__ = ["Objective", "chosen_objective"]


class Objective(msgspec.Struct, frozen=True, kw_only=True):
    """What is promised for a model: the latency of an answer, and the share of requests that keep it."""

    latency_ms: float = 100.0
    availability: float = 0.999

    def __post_init__(self) -> None:
        if not self.latency_ms > 0 or not 0 < self.availability < 1:
            raise ConfigurationError(f"objective {self!r}: latency_ms is above 0, availability between 0 and 1")


def chosen_objective(where: str, objective: object, default: Objective) -> Objective:
    """What is declared, or else the default.

    Raises `ConfigurationError`: an app file is not type-checked before it runs.
    """
    if objective is None:
        return default
    if not isinstance(objective, Objective):
        raise ConfigurationError(
            f"{where}: objective is {shown(objective)}, not an Objective",
            hint="write objective=ps.Objective(latency_ms=50)",
        )
    return objective
