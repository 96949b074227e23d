import numpy as np
import pytest

from penstock.streams.windows import rows as rows_module
from penstock.streams.windows.rows import Rows, Spans

GENERATOR = np.random.default_rng(11)
STARTS = np.array([0, 1, 5, 6, 30])
VALUES = GENERATOR.normal(size=40) * 10.0 ** GENERATOR.integers(-12, 12, 40)


def runs() -> list[slice]:
    return [slice(start, end) for start, end in zip(STARTS, [*STARTS[1:], 40], strict=True)]


def test_running_sums_are_sums_one_by_one() -> None:
    carried = np.array([0.0, 1e9, -3.25, 0.1, 7.0])
    found = Rows(STARTS, np.arange(40), {}).running_sum(VALUES, carried)
    for run, first in zip(runs(), carried.tolist(), strict=True):
        total = first
        for value, sum_ in zip(VALUES[run].tolist(), found[run].tolist(), strict=True):
            total += value
            assert sum_ == total


def test_one_long_run_among_many_short_ones() -> None:
    """The grid of them all would be mostly empty, so that they go by their size."""
    sizes = np.concatenate([GENERATOR.integers(1, 4, 150), [3000], GENERATOR.integers(1, 40, 50)])
    starts = sizes.cumsum() - sizes
    values = GENERATOR.normal(size=sizes.sum()) * 10.0 ** GENERATOR.integers(-12, 12, sizes.sum())
    carried = GENERATOR.normal(size=len(sizes))
    rows = Rows(starts, np.arange(len(values)), {})
    sums, highest = rows.running_sum(values, carried), rows.running_highest(values, carried)
    for start, size, first in zip(starts, sizes, carried, strict=True):
        total = most = first
        for at in range(start, start + size):
            total, most = total + values[at], max(most, values[at])
            assert (sums[at], highest[at]) == (total, most)


def test_running_totals_wrap_around() -> None:
    integers = np.full(40, (1 << 62) + 3)
    found = Rows(STARTS, np.arange(40), {}).running_total(integers, np.zeros(5, np.int64))
    for run in runs():
        assert [int(total) % (1 << 64) for total in found[run]] == [
            ((1 << 62) + 3) * count % (1 << 64) for count in range(1, run.stop - run.start + 1)
        ]


@pytest.mark.parametrize(
    "values", [VALUES, (VALUES * 1e4).astype(np.int64), GENERATOR.integers(-(1 << 63), 1 << 62, 40)]
)
def test_running_highest(values: np.ndarray) -> None:
    carried = values[[3, 1, 4, 1, 5]]
    found = Rows(STARTS, np.arange(40), {}).running_highest(values, carried)
    assert found.dtype == values.dtype
    for run, first in zip(runs(), carried, strict=True):
        assert found[run].tolist() == np.maximum(np.maximum.accumulate(values[run]), first).tolist()


def test_spans_in_several_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    lows = np.sort(GENERATOR.integers(0, 40, 25))
    highs = np.minimum(lows + GENERATOR.integers(0, 9, 25), 40)
    for pairs_max in (1, 7, 1 << 20):
        monkeypatch.setattr(rows_module, "PAIRS_MAX", pairs_max)
        spans = Spans(lows, highs)
        for number, (low, high) in enumerate(zip(lows, highs, strict=True)):
            total = 0.0
            for value in VALUES[low:high].tolist():
                total += value
            assert spans.sum(VALUES)[number] == total
            assert spans.total(np.arange(40))[number] == sum(range(low, high))
            assert spans.highest(VALUES, -np.inf)[number] == max(VALUES[low:high], default=-np.inf)
