"""What is kept of each version's answers, and for how long. Time is passed in."""

from typing import Any

import numpy as np
import pytest

from penstock.observe.metrics import MetricSet
from penstock.serving.cache.prediction_cache import CacheConfig, PredictionCache, VersionCache

X = {"x": np.zeros((1, 3), np.float32)}


def opened(
    *, cache: PredictionCache[str] | None = None, version: str = "1", **config: float
) -> VersionCache[str]:
    cache = cache or PredictionCache(1 << 20, MetricSet())
    return cache.open("m", version, CacheConfig(**({"ttl_s": 10.0} | config)))


def key_of(cache: VersionCache[str], inputs: Any = X, wanted: tuple[str, ...] | None = None) -> bytes:
    key = cache.key(inputs, wanted)
    assert key is not None
    return key


def test_an_answer_is_fresh_for_its_time() -> None:
    cache = opened(stale_s=5.0)
    key = key_of(cache)
    assert cache.get(key, 0.0) is None
    cache.put(key, "a", 100, 1.0, 0.02)
    assert [cache.get(key, now_s) for now_s in (1.0, 10.9, 11.0)] == ["a", "a", None]
    assert (cache.stale(key, 12.0, 11.0), cache.stale(key, 12.1, 11.0)) == ("a", None), "its age is bounded"
    assert (cache.stale(key, 15.9, 1e9), cache.stale(key, 16.0, 1e9)) == ("a", None), "and how long it is kept"
    counted = cache.statistics()
    assert (counted.hits, counted.stale) == (2, 2)
    assert counted.saved_s == pytest.approx(0.04)


def test_what_counts_into_a_key() -> None:
    cache = opened()
    keys = {
        key_of(cache),
        key_of(cache, wanted=("y",)),
        key_of(cache, wanted=()),
        key_of(cache, {"x": np.ones((1, 3), np.float32)}),
    }
    assert len(keys) == 4
    assert key_of(cache, {"x": np.zeros((1, 3), np.float32)}) in keys


def test_a_version_s_answers_are_its_own_and_go_with_it() -> None:
    process: PredictionCache[str] = PredictionCache(1 << 20, MetricSet())
    one, two = opened(cache=process), opened(cache=process, version="2")
    assert key_of(one) != key_of(two)
    one.put(key_of(one), "a", 100, 0.0, 0.1)
    again = opened(cache=process)
    assert again.get(key_of(again), 0.0) is None, "the same version anew may be another one"
    late = key_of(one)
    one.close()
    one.close()
    assert one.key(X, None) is None
    one.put(late, "late", 100, 0.0, 0.1)
    entry = process.store.get(late)
    assert entry is not None
    assert entry.value == "a", "what comes late is not kept"
    assert process.stale("m", X, None, 0.0, 1e9) is None


def test_what_is_forgotten_is_not_found_in_any_way() -> None:
    process: PredictionCache[str] = PredictionCache(1 << 20, MetricSet())
    one, two = opened(cache=process, stale_s=100), opened(cache=process, version="2", stale_s=100)
    under_way = key_of(one)
    one.put(under_way, "a", 100, 0.0, 0.1)
    two.put(key_of(two), "b", 100, 0.0, 0.1)
    one.forget()
    assert one.get(key_of(one), 0.0) is None
    one.put(under_way, "from a run that had begun", 100, 0.0, 0.1)
    assert one.get(key_of(one), 0.0) is None
    assert process.stale("m", X, None, 0.0, 1e9) == ("b", "2")
    assert two.get(key_of(two), 0.0) == "b"
    one.put(key_of(one), "c", 100, 0.0, 0.1)
    assert one.get(key_of(one), 0.0) == "c"


def test_stale_answers_of_any_version_that_is_served() -> None:
    process: PredictionCache[str] = PredictionCache(1 << 20, MetricSet())
    one, two = opened(cache=process, stale_s=100), opened(cache=process, version="2", stale_s=100)
    one.put(key_of(one), "a", 100, 5.0, 0.1)
    assert process.stale("m", X, None, 50.0, 60.0) == ("a", "1")
    two.put(key_of(two), "b", 100, 6.0, 0.1)
    assert process.stale("m", X, None, 50.0, 60.0) == ("b", "2")
    assert process.stale("m", X, None, 50.0, 44.5) == ("b", "2")
    assert process.stale("m", X, None, 50.0, 43.0) is None
    assert process.stale("other", X, None, 50.0, 60.0) is None
    two.close()
    assert process.stale("m", X, None, 50.0, 60.0) == ("a", "1")
    assert (one.statistics().stale, two.statistics().stale) == (2, 2)


@pytest.mark.parametrize(
    "large",
    [
        np.zeros((1 << 18) + 1, np.float32),
        np.array(["a" * (1 << 20)] * 2, dtype=object),
        np.array(["a" * 30] * 40_000, dtype=object),
    ],
    ids=["numbers", "long text", "much text"],
)
def test_what_is_too_large_is_not_looked_up(large: Any) -> None:
    assert opened().key({"x": large}, None) is None


def test_measures() -> None:
    metrics = MetricSet()
    cache = opened(cache=PredictionCache(1 << 20, metrics))
    key = key_of(cache)
    cache.missed()
    cache.put(key, "a", 100, 0.0, 0.5)
    cache.get(key, 1.0)
    cache.joined()
    assert cache.statistics().hit_ratio == pytest.approx(2 / 3)
    assert opened().statistics().hit_ratio == 0.0
    text = metrics.render()
    for line in (
        'penstock_cache_requests_total{model="m",result="hit",version="1"} 1',
        'penstock_cache_requests_total{model="m",result="miss",version="1"} 1',
        'penstock_cache_requests_total{model="m",result="joined",version="1"} 1',
        'penstock_cache_saved_seconds_total{model="m",version="1"} 1',
        "penstock_cache_entries 1",
        "penstock_cache_bytes 100",
        "penstock_cache_evicted_total 0",
    ):
        assert line in text
