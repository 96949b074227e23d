"""Latencies in buckets that grow by 2 %: quantiles to 1 %, in bounded memory, merged by adding.

Source: the log-bucketed histogram of DDSketch (Masson, Rim, Lee, 2019), with fixed bounds.
"""

import math

import numpy as np
import numpy.typing as npt

__all__ = ["BUCKETS", "Counts", "buckets_of", "quantile_ms", "quantile_s"]

Counts = npt.NDArray[np.int64]

LOWEST_S = 1e-5
GROWTH = 1.02
BUCKETS = math.ceil(math.log(100.0 / LOWEST_S) / math.log(GROWTH)) + 2
"""From 10 µs to 100 s. What is below or above is counted in the first or the last."""


def buckets_of(latencies_s: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """The bucket of each."""
    positions = np.ceil(np.log(np.maximum(latencies_s, LOWEST_S) / LOWEST_S) / math.log(GROWTH))
    return np.clip(positions, 0, BUCKETS - 1).astype(np.int64)


def quantile_s(counts: Counts, quantile: float) -> float | None:
    """The smallest latency that so large a share does not pass, within 1 %; None where nothing was counted."""
    assert 0 <= quantile <= 1
    total = int(counts.sum())
    if total == 0:
        return None
    rank = max(math.ceil(quantile * total), 1)
    bucket = int(np.searchsorted(np.cumsum(counts), rank))
    # The middle of the bucket, in logarithms; the first holds all that is no longer than the lowest.
    return LOWEST_S if bucket == 0 else LOWEST_S * GROWTH ** (bucket - 0.5)


def quantile_ms(counts: Counts, quantile: float) -> float | None:
    """Likewise, in milliseconds."""
    found = quantile_s(counts, quantile)
    return None if found is None else found * 1e3
