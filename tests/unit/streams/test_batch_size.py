"""Batch sizes against simulated workers: what a batch costs is known there."""

import pytest

from penstock.core.errors import ConfigurationError
from penstock.streams.batch_size import BatchSize, BatchSizeConfig

CONFIG = BatchSizeConfig(target_ms=20.0, rows_min=10, rows_max=50_000, bytes_max=1 << 20)


def work(size: BatchSize, *, batches: int, fixed_s: float, per_row_s: float) -> None:
    """So many batches under backlog: each as large as is allowed."""
    for _ in range(batches):
        rows = size.rows
        size.observe(rows=rows, size_bytes=rows, seconds=fixed_s + per_row_s * rows)


@pytest.mark.parametrize("per_row_s", [1e-6, 2e-6, 1e-5, 1e-4])
def test_under_backlog_batches_take_about_the_target(per_row_s: float) -> None:
    size = BatchSize(CONFIG)
    work(size, batches=100, fixed_s=0.001, per_row_s=per_row_s)
    seen: list[float] = []
    for _ in range(50):
        work(size, batches=1, fixed_s=0.001, per_row_s=per_row_s)
        seen.append(0.001 + per_row_s * size.rows)
    assert 0.014 <= sum(seen) / len(seen) <= 0.022
    assert max(seen) <= 0.024


def test_it_is_there_after_a_dozen_batches() -> None:
    size = BatchSize(CONFIG)
    work(size, batches=12, fixed_s=0.001, per_row_s=2e-6)
    assert size.rows > 5000


def test_it_keeps_its_bounds() -> None:
    size = BatchSize(CONFIG)
    work(size, batches=200, fixed_s=0.0, per_row_s=0.0)
    assert size.rows == 50_000
    work(size, batches=200, fixed_s=0.0, per_row_s=1.0)
    assert size.rows == 10
    assert size.statistics().overruns > 0


def test_what_does_not_fill_a_batch_lets_it_not_grow() -> None:
    size = BatchSize(CONFIG)
    for _ in range(100):
        size.observe(rows=1, size_bytes=1, seconds=0.001)
        size.observe(rows=0, size_bytes=0, seconds=0.0)
    assert size.rows == 10
    assert size.statistics().batches == 100
    for _ in range(100):
        size.observe(rows=10, size_bytes=1 << 20, seconds=0.001)
    assert size.rows == 10, "bytes bound it, not rows"


def test_a_pause_in_a_small_batch_says_nothing_about_rows() -> None:
    size = BatchSize(CONFIG)
    work(size, batches=100, fixed_s=0.001, per_row_s=2e-6)
    rows = size.rows
    size.observe(rows=1, size_bytes=1, seconds=30.0)
    assert size.rows == rows
    size.observe(rows=rows, size_bytes=rows, seconds=30.0)
    assert size.rows >= rows // 2 - 1, "nor does one outlier undo it all"
    work(size, batches=60, fixed_s=0.001, per_row_s=2e-6)
    assert size.rows > rows * 0.7


def test_one_batch_that_takes_too_long_is_a_pause_and_two_are_too_many_rows() -> None:
    """Else a busy machine takes a backlog's batches down to the smallest, which keeps it from ever ending."""
    size = BatchSize(CONFIG)
    work(size, batches=20, fixed_s=0.001, per_row_s=2e-6)
    size.observe(rows=1, size_bytes=1, seconds=0.001)
    rows = size.rows
    size.observe(rows=rows, size_bytes=rows, seconds=0.1)
    assert size.rows == rows
    size.observe(rows=rows, size_bytes=rows, seconds=0.1)
    assert size.rows < rows


def test_from_the_smallest_to_the_largest_batch_in_a_few_steps() -> None:
    size = BatchSize(BatchSizeConfig())
    work(size, batches=5, fixed_s=0.003, per_row_s=2e-6)
    assert size.rows >= 25_000


def test_a_commit_slower_than_the_target_does_not_starve_the_backlog() -> None:
    """With commits of 60 ms, batches of 20 ms are out of reach; the smallest would do 150 rows a second."""
    size = BatchSize(CONFIG)
    for number in range(300):
        rows = size.rows if number % 3 else max(size.rows // 2, 1)
        size.observe(rows=rows, size_bytes=rows, seconds=0.06 + 1e-5 * rows)
    assert size.rows > 2000
    statistics = size.statistics()
    assert statistics.fixed_ms == pytest.approx(60.0, rel=0.05)
    assert statistics.per_row_us == pytest.approx(10.0, rel=0.05)


@pytest.mark.parametrize(
    "values",
    [
        {"target_ms": 0.0},
        {"rows_min": 0},
        {"rows_min": 10, "rows_max": 5},
        {"rows_max": 10_000_000},
        {"bytes_max": 0},
        {"target_ms": float("nan")},
    ],
)
def test_what_bounds_nothing_is_refused(values: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match="batches cannot be sized"):
        BatchSizeConfig(**values)  # type: ignore[arg-type]
