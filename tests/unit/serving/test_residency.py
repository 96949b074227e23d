"""What is evicted, against every set of versions that could be."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from penstock.serving.residency import KEPT_MAX, Resident, evictions


@st.composite
def loaded(draw: st.DrawFn) -> list[Resident]:
    count = draw(st.integers(0, 7))
    used = draw(st.permutations(range(count)))
    return [
        Resident(
            model=draw(st.sampled_from(["a", "b"])),
            version=str(number),
            memory_bytes=draw(st.integers(0, 10)),
            wanted=draw(st.booleans()),
            used_s=float(used[number]),
        )
        for number in range(count)
    ]


@given(loaded(), st.integers(0, 40), st.integers(0, 10))
def test_evictions(residents: list[Resident], budget_bytes: int, needed_bytes: int) -> None:
    leaving, fits = evictions(residents, budget_bytes, needed_bytes)
    staying = [each for each in residents if each not in leaving]
    unwanted = [each for each in residents if not each.wanted]
    assert all(not each.wanted for each in leaving)
    assert len({each.version for each in leaving}) == len(leaving)

    def held(stay: list[Resident]) -> int:
        return sum(each.memory_bytes for each in stay) + needed_bytes

    possible = any(
        held([each for each in residents if each not in gone]) <= budget_bytes
        for size in range(len(unwanted) + 1)
        for gone in combinations(unwanted, size)
    )
    assert fits is possible is (held(staying) <= budget_bytes)
    for model in ("a", "b"):
        kept = [each for each in staying if each.model == model and not each.wanted]
        assert len(kept) <= KEPT_MAX
        gone = [each for each in leaving if each.model == model]
        assert all(one.used_s < other.used_s for one in gone for other in kept)

    # Nobody goes without need: beyond those over `KEPT_MAX`, the last to go was needed for the budget.
    newest = {m: sorted((e for e in unwanted if e.model == m), key=lambda e: -e.used_s) for m in ("a", "b")}
    over = [each for kept in newest.values() for each in kept[KEPT_MAX:]]
    for_budget = [each for each in leaving if each not in over]
    if for_budget:
        last = max(for_budget, key=lambda each: each.used_s)
        assert held([*staying, last]) > budget_bytes
    kept_unwanted = [each for each in staying if not each.wanted]
    assert all(one.used_s < other.used_s for one in for_budget for other in kept_unwanted)
