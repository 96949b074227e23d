"""What is counted of the versions being served: small records that add up over processes."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import msgspec

__all__ = [
    "BatchSize",
    "BreakerCounts",
    "CacheCounts",
    "DeploymentStatistics",
    "Durations",
    "LadderCounts",
    "RungCounts",
    "merge_statistics",
    "told_beside",
]


class Durations(msgspec.Struct, frozen=True):
    """How often something happened, and how long it took in all."""

    count: int = 0
    seconds: float = 0.0

    def plus(self, other: "Durations") -> "Durations":
        return Durations(self.count + other.count, self.seconds + other.seconds)


class BatchSize(msgspec.Struct, frozen=True):
    """The runs with so many rows."""

    rows: int
    runs: Durations


class CacheCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Requests that were answered from the cache (from arrival to answer), that ran, and that joined another's
    run; answers given past their time; and what the model would have taken for those that it was not asked for.

    A cache's own `CacheStatistics` counts hits without their time, which only the server around it knows.
    """

    hits: Durations = Durations()
    misses: int = 0
    joined: int = 0
    stale: int = 0
    saved_s: float = 0.0

    @property
    def hit_ratio(self) -> float:
        """The share that did not run, from 0 to 1."""
        return (self.hits.count + self.joined) / self.asked if self.asked else 0.0

    @property
    def asked(self) -> int:
        """All that were looked up."""
        return self.hits.count + self.misses + self.joined

    def plus(self, other: "CacheCounts") -> "CacheCounts":
        return CacheCounts(
            hits=self.hits.plus(other.hits),
            misses=self.misses + other.misses,
            joined=self.joined + other.joined,
            stale=self.stale + other.stale,
            saved_s=self.saved_s + other.saved_s,
        )


class BreakerCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How many processes have the breaker in which state now; how often it opened, and what it refused.

    The window, probes and state of one breaker (`BreakerStatistics`) mean nothing once they are added up.
    """

    states: dict[str, int] = {}
    opened: int = 0
    refused: int = 0

    def plus(self, other: "BreakerCounts") -> "BreakerCounts":
        return BreakerCounts(
            states=_added(self.states, other.states),
            opened=self.opened + other.opened,
            refused=self.refused + other.refused,
        )


class RungCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How often a rung answered, and how often it was asked and did not."""

    answered: int = 0
    passed: int = 0


class LadderCounts(msgspec.Struct, frozen=True, kw_only=True):
    """By rung, the model itself first; what no rung answered; in how many processes it is a brown-out now."""

    rungs: dict[str, RungCounts] = {}
    exhausted: int = 0
    browned_out: int = 0

    def plus(self, other: "LadderCounts") -> "LadderCounts":
        rungs = dict(self.rungs)
        for name, counts in other.rungs.items():
            had = rungs.get(name, RungCounts())
            rungs[name] = RungCounts(answered=had.answered + counts.answered, passed=had.passed + counts.passed)
        return LadderCounts(
            rungs=rungs,
            exhausted=self.exhausted + other.exhausted,
            browned_out=self.browned_out + other.browned_out,
        )


class DeploymentStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What one version has done since its first process began to serve it.

    `cache`, `breaker` and `ladder` are None where it has none. `success` and `failure` are requests, from
    arrival to answer; `queue` is what the requests that ran had waited for their run. `last_inference_s` is the
    time of the last answer in seconds since 1970, 0 for none.
    """

    model: str
    version: str
    last_inference_s: float = 0.0
    rows: int = 0
    success: Durations = Durations()
    failure: Durations = Durations()
    queue: Durations = Durations()
    batches: tuple[BatchSize, ...] = ()
    cache: CacheCounts | None = None
    breaker: BreakerCounts | None = None
    ladder: LadderCounts | None = None

    @property
    def runs(self) -> Durations:
        """All runs of the runtime."""
        total = Durations()
        for size in self.batches:
            total = total.plus(size.runs)
        return total

    def plus(self, other: "DeploymentStatistics") -> "DeploymentStatistics":
        """Both together; they are of the same version."""
        assert (self.model, self.version) == (other.model, other.version), "statistics of different versions"
        sizes = {size.rows: size.runs for size in self.batches}
        for size in other.batches:
            sizes[size.rows] = sizes.get(size.rows, Durations()).plus(size.runs)
        return DeploymentStatistics(
            model=self.model,
            version=self.version,
            last_inference_s=max(self.last_inference_s, other.last_inference_s),
            rows=self.rows + other.rows,
            success=self.success.plus(other.success),
            failure=self.failure.plus(other.failure),
            queue=self.queue.plus(other.queue),
            batches=tuple(BatchSize(rows, sizes[rows]) for rows in sorted(sizes)),
            cache=_both(self.cache, other.cache),
            breaker=_both(self.breaker, other.breaker),
            ladder=_both(self.ladder, other.ladder),
        )

    def ended(self) -> "DeploymentStatistics":
        """What stays of it once it is not served any more: what was counted, and no state."""
        breaker, ladder = self.breaker, self.ladder
        return msgspec.structs.replace(
            self,
            breaker=None if breaker is None else msgspec.structs.replace(breaker, states={}),
            ladder=None if ladder is None else msgspec.structs.replace(ladder, browned_out=0),
        )


def merge_statistics(parts: Iterable[DeploymentStatistics]) -> tuple[DeploymentStatistics, ...]:
    """One record a version, in the order in which versions first appear."""
    merged: dict[tuple[str, str], DeploymentStatistics] = {}
    for part in parts:
        key = (part.model, part.version)
        merged[key] = merged[key].plus(part) if key in merged else part
    return tuple(merged.values())


def told_beside(each: DeploymentStatistics) -> dict[str, Any]:
    """What there is of a cache, a breaker and a ladder, plain, for who reads JSON."""
    told: dict[str, Any] = {}
    if (cache := each.cache) is not None:
        told["cache"] = {
            "hits": cache.hits.count,
            "misses": cache.misses,
            "joined": cache.joined,
            "stale": cache.stale,
            "hit_ratio": cache.hit_ratio,
            "saved_s": cache.saved_s,
        }
    if each.breaker is not None:
        told["breaker"] = msgspec.to_builtins(each.breaker)
    if each.ladder is not None:
        told["ladder"] = msgspec.to_builtins(each.ladder)
    return told


def _added(some: Mapping[str, int], further: Mapping[str, int]) -> dict[str, int]:
    return {name: some.get(name, 0) + further.get(name, 0) for name in {**some, **further}}


C = TypeVar("C", CacheCounts, BreakerCounts, LadderCounts)


def _both(one: C | None, other: C | None) -> C | None:
    return one.plus(other) if one is not None and other is not None else one or other
