"""Statistics add up, in whatever order they come."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.serving.statistics import (
    BatchSize,
    BreakerCounts,
    CacheCounts,
    DeploymentStatistics,
    Durations,
    LadderCounts,
    RungCounts,
    merge_statistics,
    told_beside,
)

durations = st.builds(Durations, st.integers(0, 100), st.integers(0, 1000).map(lambda n: n / 8))
counts = st.integers(0, 100)
caches = st.builds(
    CacheCounts,
    hits=durations,
    misses=counts,
    joined=counts,
    stale=counts,
    saved_s=counts.map(lambda n: n / 8),
)
breakers = st.builds(
    BreakerCounts,
    states=st.dictionaries(st.sampled_from(["closed", "open"]), st.integers(1, 3)),
    opened=counts,
    refused=counts,
)
ladders = st.builds(
    LadderCounts,
    rungs=st.dictionaries(
        st.sampled_from(["model", "cached"]), st.builds(RungCounts, answered=counts, passed=counts)
    ),
    exhausted=counts,
    browned_out=st.integers(0, 1),
)
parts = st.builds(
    DeploymentStatistics,
    model=st.sampled_from(["a", "b"]),
    version=st.sampled_from(["1", "2"]),
    last_inference_s=st.integers(0, 10).map(float),
    rows=st.integers(0, 100),
    success=durations,
    failure=durations,
    queue=durations,
    batches=st.dictionaries(st.integers(1, 4), durations).map(
        lambda runs: tuple(BatchSize(rows, runs[rows]) for rows in sorted(runs))
    ),
    cache=st.none() | caches,
    breaker=st.none() | breakers,
    ladder=st.none() | ladders,
)
Merged = dict[tuple[str, str], DeploymentStatistics]


def by_version(merged: tuple[DeploymentStatistics, ...]) -> Merged:
    found = {(each.model, each.version): each for each in merged}
    assert len(found) == len(merged)
    return found


@given(st.lists(parts), st.data())
def test_the_order_and_the_grouping_do_not_matter(
    given_parts: list[DeploymentStatistics], data: st.DataObject
) -> None:
    once = by_version(merge_statistics(given_parts))
    shuffled = data.draw(st.permutations(given_parts))
    cut = data.draw(st.integers(0, len(shuffled)))
    apart = merge_statistics((*merge_statistics(shuffled[cut:]), *merge_statistics(shuffled[:cut])))
    assert by_version(apart) == once


@given(st.lists(parts))
def test_nothing_is_lost(given_parts: list[DeploymentStatistics]) -> None:
    merged = merge_statistics(given_parts)
    for name in ("success", "failure", "queue", "runs"):
        assert sum(getattr(m, name).count for m in merged) == sum(getattr(p, name).count for p in given_parts)
        assert sum(getattr(m, name).seconds for m in merged) == sum(
            getattr(p, name).seconds for p in given_parts
        )
    assert sum(m.rows for m in merged) == sum(p.rows for p in given_parts)
    for (model, version), each in by_version(merged).items():
        of_it = [p for p in given_parts if (p.model, p.version) == (model, version)]
        assert each.last_inference_s == max(p.last_inference_s for p in of_it)
        sizes = [size.rows for size in each.batches]
        assert sizes == sorted({size.rows for p in of_it for size in p.batches})


@given(st.lists(parts))
def test_nothing_beside_the_model_is_lost(given_parts: list[DeploymentStatistics]) -> None:
    for each in merge_statistics(given_parts):
        told = told_beside(each)
        of_it = [part for part in given_parts if (part.model, part.version) == (each.model, each.version)]
        caches = [part.cache for part in of_it if part.cache is not None]
        assert ("cache" in told) is bool(caches)
        if caches:
            spared = sum(cache.hits.count + cache.joined for cache in caches)
            asked = spared + sum(cache.misses for cache in caches)
            assert told["cache"]["hit_ratio"] * asked == pytest.approx(spared)
            assert told["cache"]["saved_s"] == sum(cache.saved_s for cache in caches)
        breakers = [part.breaker for part in of_it if part.breaker is not None]
        for state in ("closed", "open"):
            count = sum(breaker.states.get(state, 0) for breaker in breakers)
            assert told.get("breaker", {"states": {}})["states"].get(state, 0) == count
        ladders = [part.ladder for part in of_it if part.ladder is not None]
        for rung in ("model", "cached"):
            count = sum(ladder.rungs[rung].answered for ladder in ladders if rung in ladder.rungs)
            found = told.get("ladder", {"rungs": {}})["rungs"].get(rung, {"answered": 0})
            assert found["answered"] == count


@given(parts)
def test_what_has_ended_has_counts_and_no_state(part: DeploymentStatistics) -> None:
    ended = part.ended()
    assert (ended.success, ended.cache) == (part.success, part.cache)
    if part.breaker is not None and ended.breaker is not None:
        assert (ended.breaker.states, ended.breaker.opened) == ({}, part.breaker.opened)
    if part.ladder is not None and ended.ladder is not None:
        assert (ended.ladder.browned_out, ended.ladder.rungs) == (0, part.ladder.rungs)
