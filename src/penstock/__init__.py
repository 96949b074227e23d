"""Penstock serves and streams machine-learning models that keep their promises under any load."""

from typing import TYPE_CHECKING

from penstock.app.caching import Cache
from penstock.app.declarations import App
from penstock.app.fallbacks import cached, constant, heuristic
from penstock.app.model_declarations import Health
from penstock.app.objectives import Objective
from penstock.core.errors import InvalidInput, PenstockError, StorageFailed
from penstock.core.signature import Signature, TensorSpec
from penstock.core.tensors import Tensors
from penstock.serving.admission.rates.rule import RateLimit
from penstock.serving.cache.cached_step import cached_step
from penstock.serving.fallback.breaker import BreakerConfig as Breaker

if TYPE_CHECKING:
    from penstock.app.aggregates import count, distinct, last, max, mean, min, quantile, sum, variance  # noqa: A004 - read as ps.sum
    from penstock.app.sinks import call, delta, parquet
    from penstock.app.training import training_set
    from penstock.client import AsyncClient, Client

__version__ = "0.1.0"

__all__ = [
    "App",
    "AsyncClient",
    "Breaker",
    "Cache",
    "Client",
    "Health",
    "InvalidInput",
    "Objective",
    "PenstockError",
    "RateLimit",
    "Signature",
    "StorageFailed",
    "TensorSpec",
    "Tensors",
    "cached",
    "cached_step",
    "call",
    "constant",
    "count",
    "delta",
    "distinct",
    "heuristic",
    "last",
    "max",
    "mean",
    "min",
    "parquet",
    "quantile",
    "sum",
    "training_set",
    "variance",
]

_SINKS = ("call", "delta", "parquet")
_AGGREGATES = ("count", "distinct", "last", "max", "mean", "min", "quantile", "sum", "variance")


def __getattr__(name: str) -> object:
    # Models' processes import penstock in each start, and need no asyncio, which the clients bring.
    if name in ("AsyncClient", "Client"):
        from penstock import client

        return getattr(client, name)
    if name in _AGGREGATES:
        # Polars comes with them, which an app without streams does without.
        from penstock.app import aggregates

        return getattr(aggregates, name)
    if name in _SINKS:
        from penstock.app import sinks

        return getattr(sinks, name)
    if name == "training_set":
        from penstock.app import training

        return training.training_set
    raise AttributeError(f"module 'penstock' has no attribute {name!r}")
