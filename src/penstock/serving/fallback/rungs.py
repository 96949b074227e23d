"""The rungs of a ladder as they are declared: what is asked, in their order, when the model does not answer."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from penstock.core.errors import ConfigurationError, shown
from penstock.core.tensors import Tensors

__all__ = ["CACHED", "CONSTANT", "HEURISTIC", "MODEL", "Backup", "Cached", "Constant", "Heuristic", "Rung"]

MODEL = "model"
CACHED = "cached"
CONSTANT = "constant"
HEURISTIC = "heuristic"
BACKUP_CONCURRENCY = 1024
"""Requests that a backup model is asked for one model at a time; its own queue has bounds of its own."""
HEURISTIC_CONCURRENCY = 64
HEURISTIC_TIMEOUT_MS = 50.0
AGE_S_MAX = 30 * 86_400.0


@dataclass(frozen=True, kw_only=True)
class Cached:
    """The answer that the model gave to the same inputs, no more than `max_age_s` ago."""

    max_age_s: float

    @property
    def name(self) -> str:
        return CACHED

    def __post_init__(self) -> None:
        if not 0 < self.max_age_s <= AGE_S_MAX:
            raise ConfigurationError(
                f"cached(max_age={shown(self.max_age_s)}): an age is above 0 and at most 30 days",
                hint='write cached(max_age="10m"), or a number of seconds',
            )


@dataclass(frozen=True, kw_only=True)
class Backup:
    """Another model of the app, which is kept loaded."""

    name: str
    concurrency: int = BACKUP_CONCURRENCY


@dataclass(frozen=True, kw_only=True)
class Constant:
    """The same value in each row, by output."""

    values: Mapping[str, object]

    @property
    def name(self) -> str:
        return CONSTANT

    def __post_init__(self) -> None:
        if not self.values:
            raise ConfigurationError(
                "constant() gives no output", hint="name the model's outputs: constant(probability=0.2)"
            )


@dataclass(frozen=True, kw_only=True)
class Heuristic:
    """A function of the inputs, which runs in a thread of its own for at most `timeout_ms`."""

    function: Callable[[Tensors], object] = field(repr=False)
    timeout_ms: float = HEURISTIC_TIMEOUT_MS
    concurrency: int = HEURISTIC_CONCURRENCY

    @property
    def name(self) -> str:
        return HEURISTIC

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise ConfigurationError(
                f"heuristic({shown(self.function)}) is no function",
                hint="give it a function that takes the inputs and returns the outputs, both dicts of arrays",
            )
        if not (0 < self.timeout_ms < math.inf) or self.concurrency < 1:
            raise ConfigurationError(
                f"heuristic(timeout_ms={self.timeout_ms}, concurrency={self.concurrency}): both are above 0"
            )


Rung = Cached | Backup | Constant | Heuristic
