"""Arrivals, drawn before the load begins, so that nothing that the server does can delay them.

Source: an inhomogeneous Poisson process by inversion of its mean; "coordinated omission" is Gil Tene's word for
what happens where the next request waits for the last one's answer.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from penstock.core.rng import Rng
from penstock.drills.surge.shapes import Shape

__all__ = ["Schedule", "draw_schedule"]


class Schedule(NamedTuple):
    """Requests in the order of their intended times."""

    at_s: npt.NDArray[np.float64]
    """Seconds from the beginning, never falling."""
    kind: npt.NDArray[np.uint8]
    """Which of the mix each one is."""
    cut: bool
    """Whether there would have been more, had the limit allowed it."""

    def share(self, index: int, of: int) -> "Schedule":
        """What one of `of` generators sends: every `of`-th. All of them together send each exactly once."""
        return Schedule(self.at_s[index::of], self.kind[index::of], self.cut)


def draw_schedule(shape: Shape, weights: tuple[float, ...], rng: Rng, *, requests_max: int) -> Schedule:
    """A Poisson process along the shape, each request of a kind by the weights. At most `requests_max`.

    The same seed gives the same requests, by however many generators they are sent.
    """
    expected = shape.requests_expected
    count = int(rng.poisson(expected))
    kept = min(count, requests_max)
    # Given their number, the arrivals of a Poisson process lie evenly over its mean. Sums of exponentials, over
    # the sum of one more than there are, lie so too, and in order: only those that are kept have to be drawn.
    sums = np.cumsum(rng.standard_exponential(kept))
    whole = (sums[-1] if kept else 0.0) + rng.standard_gamma(count + 1 - kept)
    at_s = shape.times_at(sums / whole * expected)
    share = np.array(weights, dtype=np.float64)
    kind = rng.choice(len(weights), size=kept, p=share / share.sum()).astype(np.uint8)
    return Schedule(at_s, kind, count > requests_max)
