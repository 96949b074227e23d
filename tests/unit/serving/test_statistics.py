"""Statistics add up, in whatever order they come."""

from hypothesis import given
from hypothesis import strategies as st

from penstock.serving.statistics import BatchSize, DeploymentStatistics, Durations, merge_statistics

durations = st.builds(Durations, st.integers(0, 100), st.integers(0, 1000).map(lambda n: n / 8))
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
