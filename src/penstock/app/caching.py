"""What an app file says of answers that are kept."""

import msgspec

from penstock.core.durations import duration_s
from penstock.core.errors import ConfigurationError, shown
from penstock.serving.cache.prediction_cache import CacheConfig

__all__ = ["Cache", "check_cache"]

KEPT_S_MAX = 30 * 86_400.0


class Cache(msgspec.Struct, frozen=True, kw_only=True):
    """Keeps a model's answers: who asks the same within `ttl` gets the same, without the model.

    `stale` is how much longer they are kept for `cached(...)` in a fallback, when the model does not answer.
    Both are as in "10m", "90s", "1.5h", or in seconds, and together 30 days at most. Only for models that give
    the same for the same inputs.

    Raises `ConfigurationError` for what is no such time.
    """

    ttl: str | float
    stale: str | float = 0.0

    def __post_init__(self) -> None:
        config = self.config
        if not config.ttl_s > 0 or not config.stale_s >= 0 or config.ttl_s + config.stale_s > KEPT_S_MAX:
            raise ConfigurationError(
                f"a cache with ttl={shown(self.ttl)} and stale={shown(self.stale)} cannot work",
                hint="ttl is above 0, stale 0 or more, and both together at most 30 days",
            )

    @property
    def config(self) -> CacheConfig:
        return CacheConfig(
            ttl_s=duration_s(self.ttl, "ttl of a cache"), stale_s=duration_s(self.stale, "stale of a cache")
        )


def check_cache(model: str, cache: object) -> None:
    """Raises `ConfigurationError`: an app file is not type-checked before it runs."""
    if cache is not None and not isinstance(cache, Cache):
        raise ConfigurationError(
            f"model {model!r}: cache is {shown(cache)}, not a Cache", hint='write cache=ps.Cache(ttl="10m")'
        )
