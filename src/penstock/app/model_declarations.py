"""Models as an app file declares them."""

from collections.abc import Callable, Mapping

import msgspec

from penstock.app.caching import Cache, check_cache
from penstock.app.model_features import ModelFeatures
from penstock.app.objectives import Objective
from penstock.core.durations import duration_s
from penstock.core.errors import ConfigurationError, shown
from penstock.core.signature import Signature
from penstock.models.naming import CHAMPION, NUMBER_MAX, check_alias, check_model_name
from penstock.serving.fallback.breaker import BreakerConfig
from penstock.serving.fallback.rungs import Rung

__all__ = ["CallableDeclaration", "Declaration", "Health", "ModelDeclaration", "check_declaration"]


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """How a model is checked while it serves: on the golden rows of its push, or on `inputs` with the `outputs`
    that are right for them.

    About `every` so often ("30s", or seconds; 0: never), with at most `latency_ms` for all these rows together;
    `failures` in a row take a version out. What is None is as in the settings, `health.*`; without `latency_ms`
    there is no bound.
    """

    every: str | float | None = None
    failures: int | None = None
    latency_ms: float | None = None
    inputs: Mapping[str, object] | None = None
    outputs: Mapping[str, object] | None = None

    def __post_init__(self) -> None:
        if (self.inputs is None) is not (self.outputs is None):
            raise ConfigurationError("a health check needs both inputs and the outputs that are right for them")
        bounded = self.latency_ms is None or 0 < self.latency_ms < float("inf")
        if not bounded or (self.failures is not None and self.failures < 1) or not (self.every_s or 0) >= 0:
            raise ConfigurationError(
                f"a health check with every={shown(self.every)}, failures={shown(self.failures)}, "
                f"latency_ms={shown(self.latency_ms)} cannot work",
                hint="failures is 1 or more, latency_ms above 0",
            )

    @property
    def every_s(self) -> float | None:
        return None if self.every is None else duration_s(self.every, "every of a health check")


class ModelDeclaration(msgspec.Struct, frozen=True, kw_only=True):
    """A model of the registry: the version that `alias` names, or one by its number."""

    name: str
    alias: str = CHAMPION
    version: int | None = None
    beside: tuple[str | int, ...] = ()
    features: ModelFeatures | None = None
    objective: Objective = msgspec.field(default_factory=Objective)
    batch_rows_max: int | None = None
    fallback: tuple[Rung, ...] = ()
    breaker: BreakerConfig | None = None
    health: Health = msgspec.field(default_factory=Health)
    cache: Cache | None = None


class CallableDeclaration(msgspec.Struct, frozen=True, kw_only=True):
    """A model that is a Python callable of the app file."""

    name: str
    signature: Signature
    target: Callable[..., object]
    features: ModelFeatures | None = None
    objective: Objective = msgspec.field(default_factory=Objective)
    batch_rows_max: int | None = None
    fallback: tuple[Rung, ...] = ()
    breaker: BreakerConfig | None = None
    health: Health = msgspec.field(default_factory=Health)
    cache: Cache | None = None


Declaration = ModelDeclaration | CallableDeclaration


def check_declaration(declared: Declaration) -> None:
    """Raises `ConfigurationError` and `InvalidInput`: an app file is not type-checked before it runs."""
    check_model_name(declared.name)
    check_cache(declared.name, declared.cache)
    if isinstance(declared, ModelDeclaration):
        check_alias(declared.alias)
        _check_version(declared.name, declared.version)
        for other in declared.beside:
            if isinstance(other, str):
                check_alias(other)
            else:
                _check_version(declared.name, other)
    if declared.batch_rows_max is not None and declared.batch_rows_max < 1:
        raise ConfigurationError(
            f"model {declared.name!r}: batch_rows_max is {declared.batch_rows_max}, not 1 or more"
        )


def _check_version(model: str, version: object) -> None:
    if version is None:
        return
    if not isinstance(version, int) or isinstance(version, bool) or not 1 <= version <= NUMBER_MAX:
        raise ConfigurationError(
            f"model {model!r}: version is {shown(version)}, not a version's number",
            hint="write version=3, or alias='champion' for an alias",
        )
