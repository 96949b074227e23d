"""Over which steps a point of a smooth line is taken: enough of them, and never across the surge's edges."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

__all__ = ["means", "smooth_spans"]

SPAN_S = 1.0
REQUESTS_MIN = 100
"""Of so many, chance moves a count by a tenth."""
SPANS_MIN = 10
"""A drill of few requests still shows so many moments."""


def smooth_spans(
    points: int, step_s: float, offered_per_s: float, edges_s: Iterable[float] = ()
) -> tuple[slice, ...]:
    """For each of `points` steps of `step_s` seconds, those that its smooth value is taken over.

    They lie around it: a second of them, or as long as 100 requests take where that is longer, but no more than
    a tenth of all. At the edges, and at both ends, there are fewer: what was before a surge is not mixed with
    what is in it.
    """
    span_s = max(SPAN_S, REQUESTS_MIN / offered_per_s if offered_per_s > 0 else SPAN_S)
    reach = round(min(span_s / step_s, max(points // SPANS_MIN, 1))) // 2
    cuts = sorted({0, points, *(round(at_s / step_s) for at_s in edges_s if 0 < round(at_s / step_s) < points)})
    return tuple(
        slice(max(index - reach, first), min(index + reach + 1, end))
        for first, end in pairwise(cuts)
        for index in range(first, end)
    )


def means(values: Sequence[float], spans: Sequence[slice]) -> list[float]:
    """The mean of each span: rates may be averaged, quantiles may not."""
    return [sum(values[span]) / (span.stop - span.start) for span in spans]
