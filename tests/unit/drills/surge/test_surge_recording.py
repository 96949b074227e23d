"""Every request is counted once, whatever order and whichever process it comes from."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from penstock.drills.surge.recording import LABELS_MAX, Finished, Outcome, Recording

LATENCIES = st.floats(1e-4, 50)
FINISHED = st.builds(
    Finished,
    intended_s=st.floats(0, 12),
    latency_s=LATENCIES,
    lateness_s=LATENCIES,
    kind=st.integers(0, 2),
    outcome=st.sampled_from(Outcome),
    label=st.integers(0, 2),
    attempt=st.integers(0, 3),
)


def recording(names: tuple[str, ...] = ("a", "b")) -> Recording:
    made = Recording(duration_s=10, kinds=3)
    for name in names:
        made.label(name)
    return made


@given(st.lists(FINISHED, max_size=50), st.integers(0, 50))
def test_parts_merge_to_the_whole_and_counts_agree_with_counting_by_hand(
    all_of_them: list[Finished], cut: int
) -> None:
    whole, first, second = recording(), recording(), recording(("b", "a"))
    whole.add(all_of_them)
    first.add(all_of_them[:cut])
    # The other process met the labels in another order.
    second.add([each._replace(label=(0, 2, 1)[each.label]) for each in all_of_them[cut:]])
    first.merge(second)
    for name in ("counts", "retries", "by_label", "latency", "latency_by_kind", "latency_by_label", "lateness"):
        assert np.array_equal(getattr(first, name), getattr(whole, name)), name
    by_hand = Counter(
        (min(int(each.intended_s * 10 + 1e-12), 99), each.kind, each.outcome) for each in all_of_them
    )
    assert int(whole.counts.sum()) == len(all_of_them)
    assert sum(by_hand.values()) == int(whole.counts.sum())
    for kind in range(3):
        for outcome in Outcome:
            by_kind = sum(count for key, count in by_hand.items() if key[1:] == (kind, outcome))
            assert by_kind == whole.counts[:, kind, outcome].sum()
    assert whole.retries.sum() == sum(each.attempt > 0 for each in all_of_them)
    assert whole.latency.sum() == sum(each.outcome <= Outcome.LATE for each in all_of_them)


def test_a_request_counts_in_the_window_that_it_was_meant_for() -> None:
    counted = recording()
    counted.add([Finished(3.25, 5.0, 0.0, 1, Outcome.LATE, 0, 0)])
    assert counted.counts[32, 1, Outcome.LATE] == 1


def test_labels_without_end_count_together() -> None:
    counted = recording(())
    numbers = [counted.label(f"reason {number}") for number in range(1000)]
    assert max(numbers) == LABELS_MAX - 1
    assert len(counted.labels) == LABELS_MAX
    assert counted.labels[-1] == "other"
    assert counted.label("reason 3") == numbers[3]
