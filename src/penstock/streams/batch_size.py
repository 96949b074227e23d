"""How many rows the next micro-batch may have: as many as can be done within the time that is wanted.

Time is taken to be fixed + per_row · rows, learned by least squares with exponential forgetting. The limit
grows while full batches end in time and shrinks when two in a row do not (additive increase, multiplicative
decrease; Chiu and Jain, 1989), by multiples from the start as TCP does. One alone that takes too long is a
pause: to shrink for it would keep the backlog that it has left. Where what is fixed (a synced commit) takes up
the target by itself, smaller batches would only make everyone wait longer: a batch may take twice what is
fixed.

Nobody waits for a batch to fill: a poll gives what is there. Idle, that is the one event that came.
"""

from dataclasses import dataclass

import msgspec

from penstock.core.errors import ConfigurationError

__all__ = ["BatchSize", "BatchSizeConfig", "BatchSizeStatistics"]

ROWS_MAX = 1_000_000
BYTES_MAX = 1 << 30
MEMORY = 0.95
"""What a batch counts after the next one: about twenty are remembered."""
GROW_SHARE = 0.1
SHRINK_SHARE = 0.9
SHRINK_SHARE_LEAST = 0.5
FAST_SHARE = 0.5
"""Full batches that take less than this of the time may double."""
FASTEST_SHARE = 0.125
"""Those that take less than this may become four times as large."""
OUTLIER_TIMES = 4.0
"""What takes longer than so many times what was expected counts as that."""
FIXED_TIMES_MAX = 10.0
"""A batch never may take more than so many times the target, whatever is fixed."""


@dataclass(frozen=True, kw_only=True)
class BatchSizeConfig:
    """A micro-batch should take at most `target_ms`, has between `rows_min` and `rows_max` rows when there are
    enough, and at most `bytes_max` bytes (or a single record).

    Raises `ConfigurationError` for values that bound nothing.
    """

    target_ms: float = 100.0
    rows_min: int = 100
    rows_max: int = 50_000
    bytes_max: int = 16 << 20

    def __post_init__(self) -> None:
        rows_fit = 1 <= self.rows_min <= self.rows_max <= ROWS_MAX
        if not (0 < self.target_ms <= 3_600_000 and rows_fit and 1 <= self.bytes_max <= BYTES_MAX):
            raise ConfigurationError(
                f"batches cannot be sized by {self!r}",
                hint="0 < target_ms <= one hour, 1 <= rows_min <= rows_max <= 1,000,000, "
                "1 <= bytes_max <= 1 GiB",
            )


class BatchSizeStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """The limit now, the batches seen, those that took longer than they should, and what rows cost."""

    rows: int
    batches: int
    overruns: int
    fixed_ms: float
    per_row_us: float


class BatchSize:
    """One for each worker. `rows` and `bytes_max` bound the next poll; `observe` tells what came of it."""

    def __init__(self, config: BatchSizeConfig) -> None:
        self._config = config
        self._rows_min = config.rows_min
        self.rows = config.rows_min
        self.bytes_max = config.bytes_max
        self._batches = 0
        self._overruns = 0
        self._starting = True
        self._late = False
        """Whether the last batch took too long."""
        # Decayed sums over batches: of 1, n, t, n², n·t.
        self._sums = (0.0, 0.0, 0.0, 0.0, 0.0)
        self._fixed_s = 0.0
        self._per_row_s = 0.0

    def observe(self, *, rows: int, size_bytes: int, seconds: float) -> None:
        """A batch of that size took that long, from the poll's return to the commit's."""
        if rows <= 0:
            return
        self._batches += 1
        self._learn(rows, max(seconds, 0.0))
        allowed_s = self._allowed_s()
        if seconds > allowed_s:
            self._overruns += 1
            if self._late or seconds > FIXED_TIMES_MAX * self._config.target_ms / 1e3:
                self._shrink(rows, seconds, allowed_s)
            self._late = True
            return
        self._late = False
        if rows >= self.rows and size_bytes < self.bytes_max:
            self._grow(seconds, allowed_s)

    def halve(self, rows: int) -> None:
        """A batch of so many rows was more than can be done at once: half of it, however few that are."""
        self.rows = max(1, rows // 2)
        self._rows_min = min(self._rows_min, self.rows)

    def statistics(self) -> BatchSizeStatistics:
        return BatchSizeStatistics(
            rows=self.rows,
            batches=self._batches,
            overruns=self._overruns,
            fixed_ms=self._fixed_s * 1e3,
            per_row_us=self._per_row_s * 1e6,
        )

    def _allowed_s(self) -> float:
        target_s = self._config.target_ms / 1e3
        return min(max(target_s, 2 * self._fixed_s), FIXED_TIMES_MAX * target_s)

    def _grow(self, seconds: float, allowed_s: float) -> None:
        if seconds < FASTEST_SHARE * allowed_s:
            rows = self.rows * 4
        elif self._starting or seconds < FAST_SHARE * allowed_s:
            rows = self.rows * 2
        else:
            rows = self.rows + max(1, int(self.rows * GROW_SHARE))
        self.rows = min(rows, self._config.rows_max)

    def _shrink(self, rows: int, seconds: float, allowed_s: float) -> None:
        """A batch of far fewer rows than were allowed says nothing about the limit: a slow disk, a pause."""
        self._starting = False
        if rows * 2 < self.rows:
            return
        share = min(max(allowed_s / seconds, SHRINK_SHARE_LEAST), SHRINK_SHARE)
        self.rows = max(int(self.rows * share), self._rows_min)

    def _learn(self, rows: int, seconds: float) -> None:
        expected_s = self._fixed_s + self._per_row_s * rows
        if expected_s > 0:
            seconds = min(seconds, OUTLIER_TIMES * expected_s)
        new = (1.0, rows, seconds, rows * rows, rows * seconds)
        self._sums = tuple(MEMORY * old + now for old, now in zip(self._sums, new, strict=True))  # type: ignore[assignment]
        count, n, t, nn, nt = self._sums
        mean_n, mean_t = n / count, t / count
        variance = nn / count - mean_n * mean_n
        # Of one size only: all of the time is the rows', so that larger batches are not thought free.
        slope = mean_t / mean_n
        if variance > 1e-9 * mean_n * mean_n:
            slope = min(max((nt / count - mean_n * mean_t) / variance, 0.0), slope)
        self._per_row_s = slope
        self._fixed_s = max(mean_t - slope * mean_n, 0.0)
