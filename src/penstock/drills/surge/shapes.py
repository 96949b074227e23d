"""How the offered load goes over time: a curve of straight pieces, in requests a second."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from penstock.core.errors import InvalidInput, shown

__all__ = ["SHAPES", "Segment", "Shape", "make_shape", "shape_of_bins"]

SHAPES = ("constant", "flash-crowd", "ramp", "spike", "step")
DECAY_PIECES = 12
RATE_PER_S_MAX = 10_000_000.0
SECONDS_MAX = 86_400.0


class Segment(NamedTuple):
    """A straight piece: the rate goes from one to the other, evenly."""

    seconds: float
    rate_start: float
    rate_end: float

    @property
    def requests(self) -> float:
        """How many are expected in it."""
        return self.seconds * (self.rate_start + self.rate_end) / 2


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """The curve, and where in it the surge is: what is before and after it is normal load."""

    name: str
    segments: tuple[Segment, ...]
    surge_start_s: float | None = None
    surge_end_s: float | None = None
    """None where the load does not come back to normal, so that there is no recovery to measure."""

    @property
    def duration_s(self) -> float:
        return math.fsum(segment.seconds for segment in self.segments)

    @property
    def peak_per_s(self) -> float:
        return max(max(segment.rate_start, segment.rate_end) for segment in self.segments)

    @property
    def requests_expected(self) -> float:
        return math.fsum(segment.requests for segment in self.segments)

    def times_at(self, expected: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """When so many requests are expected to have come: the inverse of the curve's integral.

        `expected` lies between 0 and `requests_expected`. Seconds from the beginning.
        """
        seconds, starts, ends = (
            np.array(values, dtype=np.float64) for values in zip(*self.segments, strict=True)
        )
        before = np.concatenate(([0.0], np.cumsum(seconds * (starts + ends) / 2)))
        # Segments in which nothing comes are passed over: the one found has something in it.
        at = np.clip(np.searchsorted(before, expected, side="right") - 1, 0, len(seconds) - 1)
        rest = np.maximum(expected - before[at], 0.0)
        slope = (ends[at] - starts[at]) / seconds[at]
        # The root of slope/2·t² + start·t = rest, in the form that loses nothing where the slope is nearly 0.
        denominator = starts[at] + np.sqrt(np.maximum(starts[at] ** 2 + 2 * slope * rest, 0.0))
        within = np.divide(2 * rest, denominator, out=np.zeros_like(rest), where=denominator > 0)
        began = np.concatenate(([0.0], np.cumsum(seconds)))
        times: npt.NDArray[np.float64] = began[at] + np.minimum(within, seconds[at])
        return times


def make_shape(name: str, *, base_per_s: float, peak_per_s: float, duration_s: float) -> Shape:
    """One of `SHAPES`. Raises `InvalidInput` for an unknown one, and for rates and durations that are none.

    - `constant`: the peak, all the time.
    - `step`: the base for a third, then the peak until the end.
    - `spike`: the base, the peak and the base, a third each.
    - `ramp`: evenly from the base to the peak in two thirds, then the base.
    - `flash-crowd`: the base for a fifth; up to the peak within a fiftieth; there for a fifth; then it dies
      away exponentially (to 2 %) until four fifths; the base again.
    """
    _check("the duration", duration_s, "seconds", SECONDS_MAX)
    _check("the peak", peak_per_s, "requests a second", RATE_PER_S_MAX)
    if base_per_s != 0:
        _check("the base", base_per_s, "requests a second", RATE_PER_S_MAX)
    base, peak, third = base_per_s, peak_per_s, duration_s / 3
    if name == "constant":
        return Shape(name=name, segments=(Segment(duration_s, peak, peak),))
    if name == "step":
        pieces = (Segment(third, base, base), Segment(2 * third, peak, peak))
        return Shape(name=name, segments=pieces, surge_start_s=third)
    if name == "spike":
        pieces3 = (Segment(third, base, base), Segment(third, peak, peak), Segment(third, base, base))
        return Shape(name=name, segments=pieces3, surge_start_s=third, surge_end_s=2 * third)
    if name == "ramp":
        pieces = (Segment(2 * third, base, peak), Segment(third, base, base))
        return Shape(name=name, segments=pieces, surge_start_s=0.0, surge_end_s=2 * third)
    if name == "flash-crowd":
        return _flash_crowd(base, peak, duration_s)
    raise InvalidInput(f"{shown(name)} is no shape", where="--shape", hint=f"shapes are {', '.join(SHAPES)}")


def shape_of_bins(name: str, counts: Sequence[float], *, peak_per_s: float, duration_s: float) -> Shape:
    """A curve with the form of these counts, its highest bin at the peak. Raises `InvalidInput`."""
    _check("the duration", duration_s, "seconds", SECONDS_MAX)
    _check("the peak", peak_per_s, "requests a second", RATE_PER_S_MAX)
    highest = max(counts, default=0)
    if highest <= 0:
        raise InvalidInput(f"the trace {name} has no requests in it", where="--trace")
    seconds = duration_s / len(counts)
    rates = [peak_per_s * count / highest for count in counts]
    return Shape(name=name, segments=tuple(Segment(seconds, rate, rate) for rate in rates))


def _flash_crowd(base: float, peak: float, duration_s: float) -> Shape:
    start, rise, hold, end = 0.2 * duration_s, 0.02 * duration_s, 0.2 * duration_s, 0.8 * duration_s
    decay = (end - start - rise - hold) / DECAY_PIECES
    # e^-4 is 2 %: what is left of the crowd when it counts as gone.
    levels = [base + (peak - base) * math.exp(-4 * piece / DECAY_PIECES) for piece in range(DECAY_PIECES)] + [
        base
    ]
    falling = (Segment(decay, levels[piece], levels[piece + 1]) for piece in range(DECAY_PIECES))
    return Shape(
        name="flash-crowd",
        segments=(
            Segment(start, base, base),
            Segment(rise, base, peak),
            Segment(hold, peak, peak),
            *falling,
            Segment(duration_s - end, base, base),
        ),
        surge_start_s=start,
        surge_end_s=end,
    )


def _check(what: str, value: float, unit: str, most: float) -> None:
    if not 0 < value <= most:
        raise InvalidInput(f"{what} of {shown(value)} {unit} is not between 0 and {most:,.0f}")
