"""Answers that models gave, kept for those who ask the same again: one cache a process, for all its models."""

from collections.abc import Mapping
from typing import Generic, TypeVar

import msgspec

from penstock.core.rng import secret_bytes
from penstock.core.tensors import Array, tensors_bytes
from penstock.observe.metrics import MetricSet
from penstock.serving.cache.keys import digest, tensors_parts
from penstock.serving.cache.s3_fifo import Entry, S3Fifo, S3FifoStatistics

__all__ = ["CacheConfig", "CacheStatistics", "PredictionCache", "VersionCache"]

V = TypeVar("V")

INPUT_BYTES_MAX = 1 << 20
"""Requests of more are not looked up: a key of so much takes 1.6 ms of the event loop, and such are rarely
asked again."""
MEAN_WEIGHT = 0.05


class CacheConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Answers are given again for `ttl_s`, and kept `stale_s` beyond it for when the model does not answer."""

    ttl_s: float
    stale_s: float = 0.0


class CacheStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Requests that were answered from the cache, that ran, and that joined another's run.

    `stale` are answers given past their time. `saved_s` is what the model takes for an answer, on average, for
    each that it was not asked for.
    """

    hits: int
    misses: int
    joined: int
    stale: int
    saved_s: float

    @property
    def hit_ratio(self) -> float:
        """The share that did not run, from 0 to 1."""
        asked = self.hits + self.misses + self.joined
        return (self.hits + self.joined) / asked if asked else 0.0


class PredictionCache(Generic[V]):
    """`bytes_max` bounds all that it keeps. In the event loop alone.

    Values go in and out as they are: nobody is to change them.
    """

    def __init__(self, bytes_max: int, metrics: MetricSet, secret: bytes | None = None) -> None:
        self.store: S3Fifo[V] = S3Fifo(bytes_max)
        self.secret = secret_bytes() if secret is None else secret
        self.metrics = metrics
        self._versions: list[VersionCache[V]] = []
        self._numbers = 0
        for name, meaning, read in (
            ("penstock_cache_bytes", "What the prediction cache holds.", lambda: self.store.size_bytes),
            ("penstock_cache_entries", "Answers in the prediction cache.", lambda: len(self.store)),
        ):
            metrics.gauge(name, meaning, read)
        metrics.counter_read(
            "penstock_cache_evicted_total",
            "Answers that left the cache before their time, to make room.",
            lambda: self.store.statistics().evicted,
        )

    def open(self, model: str, version: str, config: CacheConfig) -> "VersionCache[V]":
        """What keeps one version's answers, until it is closed."""
        opened = VersionCache(self, model, version, config)
        self._versions.append(opened)
        return opened

    def number(self) -> int:
        """One that no other answers are kept under."""
        self._numbers += 1
        return self._numbers

    def closed(self, version: "VersionCache[V]") -> None:
        self._versions.remove(version)

    def stale(
        self,
        model: str,
        tensors: Mapping[str, Array],
        wanted: tuple[str, ...] | None,
        now_s: float,
        max_age_s: float,
    ) -> tuple[V, str] | None:
        """The newest answer to conformed inputs that any version of the model, still served, gave no more than
        `max_age_s` ago, and the version.
        """
        newest: tuple[Entry[V], VersionCache[V]] | None = None
        for each in self._versions:
            key = each.key(tensors, wanted) if each.model == model else None
            entry = each.entry(key, now_s, max_age_s) if key is not None else None
            if entry is not None and (newest is None or entry.stored_s > newest[0].stored_s):
                newest = entry, each
        if newest is None:
            return None
        newest[1].gave_stale()
        return newest[0].value, newest[1].version

    def statistics(self) -> S3FifoStatistics:
        return self.store.statistics()


class VersionCache(Generic[V]):
    """One version's part of a `PredictionCache`."""

    def __init__(self, cache: PredictionCache[V], model: str, version: str, config: CacheConfig) -> None:
        self.model = model
        self.version = version
        self._cache = cache
        self._store = cache.store
        self._secret = cache.secret
        self._ttl_s = config.ttl_s
        self._kept_s = config.ttl_s + config.stale_s
        # Not the names: a version that is served anew may be another one.
        self._prefix = cache.number().to_bytes(8, "little")
        self._closed = False
        self._mean_s = 0.0
        self._counts = _Counts()
        labels = {"model": model, "version": version}
        counter = cache.metrics.counter
        text = "Requests by how they were answered: from the cache, by a run, or by joining another's."
        hits, misses, joined = (
            counter("penstock_cache_requests_total", text, result=result, **labels)
            for result in ("hit", "miss", "joined")
        )
        self._hits, self._misses, self._joined = hits, misses, joined
        self._stale = counter("penstock_cache_stale_total", "Answers given past their time.", **labels)
        self._saved_s = counter(
            "penstock_cache_saved_seconds_total",
            "What the model would have taken for the answers that it was not asked for.",
            **labels,
        )

    def key(self, tensors: Mapping[str, Array], wanted: tuple[str, ...] | None) -> bytes | None:
        """The key of conformed inputs and the outputs wanted; None for what is too large to be looked up."""
        if self._closed or tensors_bytes(tensors) > INPUT_BYTES_MAX:
            return None
        parts = tensors_parts(tensors, wanted)
        parts.append(self._prefix)
        return digest(self._secret, parts)

    def get(self, key: bytes, now_s: float) -> V | None:
        """The answer, if it is fresh, counted as a hit."""
        entry = self._store.get(key)
        if entry is None or now_s - entry.stored_s >= self._ttl_s:
            return None
        self._hits.value += 1
        self._counts.hits += 1
        self._saved()
        return entry.value

    def stale(self, key: bytes, now_s: float, max_age_s: float) -> V | None:
        """The answer if it was given no more than `max_age_s` ago, fresh or not."""
        entry = self.entry(key, now_s, max_age_s)
        if entry is None:
            return None
        self.gave_stale()
        return entry.value

    def entry(self, key: bytes, now_s: float, max_age_s: float) -> Entry[V] | None:
        """Likewise with when it was given, and not counted."""
        entry = self._store.get(key)
        if entry is None or now_s - entry.stored_s > max_age_s or entry.kept_until_s <= now_s:
            return None
        return entry

    def put(self, key: bytes, value: V, size_bytes: int, now_s: float, took_s: float) -> None:
        """Keeps an answer that took the model so long. What comes after closing is not kept."""
        self._mean_s += (took_s - self._mean_s) * (MEAN_WEIGHT if self._mean_s else 1.0)
        if not self._closed:
            self._store.put(key, Entry(value, size_bytes, now_s, now_s + self._kept_s), now_s)

    def missed(self) -> None:
        """A request runs."""
        self._misses.value += 1
        self._counts.misses += 1

    def joined(self) -> None:
        """A request waits for another's run."""
        self._joined.value += 1
        self._counts.joined += 1
        self._saved()

    def gave_stale(self) -> None:
        self._stale.value += 1
        self._counts.stale += 1

    def forget(self) -> None:
        """Nothing that was given so far is found any more, neither as fresh nor as stale; it leaves in time."""
        self._prefix = self._cache.number().to_bytes(8, "little")

    def close(self) -> None:
        """Nothing of it is found any more: its keys are no other's, and what it kept leaves in time."""
        if not self._closed:
            self._closed = True
            self._cache.closed(self)

    def statistics(self) -> CacheStatistics:
        """Since it was opened; metrics count on when a version is served anew."""
        counts = self._counts
        return CacheStatistics(
            hits=counts.hits,
            misses=counts.misses,
            joined=counts.joined,
            stale=counts.stale,
            saved_s=counts.saved_s,
        )

    def _saved(self) -> None:
        self._saved_s.value += self._mean_s
        self._counts.saved_s += self._mean_s


class _Counts:
    __slots__ = ("hits", "joined", "misses", "saved_s", "stale")

    def __init__(self) -> None:
        self.hits = self.misses = self.joined = self.stale = 0
        self.saved_s = 0.0
