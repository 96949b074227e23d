"""Which windows are due when the watermark moves on: those of a key that have at least one tile."""

from dataclasses import dataclass

import numpy as np

from penstock.streams.windows.rows import Spans
from penstock.streams.windows.tiles import Ints, first_from

__all__ = ["Due", "due_windows"]


@dataclass(frozen=True)
class Due:
    """Windows by their key's `slots` and their `ends` (steps), and the tiles in them: from `lows` up to before
    `highs`.
    """

    slots: Ints
    ends: Ints
    lows: Ints
    highs: Ints

    @property
    def spans(self) -> Spans:
        return Spans(self.lows, self.highs)


def due_windows(slots: Ints, steps: Ints, reach: int, after: int, until: int) -> Due:
    """Of tiles sorted by slot and step, all windows over `reach` steps that end after `after` and not after
    `until`.

    A window that ends at step e is found once: by the last of its tiles. That is the tile with a step s < e
    after which the key's next tile, if it has one, is not before e.
    """
    following = steps + reach
    same = slots[1:] == slots[:-1]
    following[:-1] = np.where(same, np.minimum(following[:-1], steps[1:]), following[:-1])
    first_ends = np.maximum(steps + 1, after + 1)
    counts = np.maximum(np.minimum(following, until) - first_ends + 1, 0)
    owners = np.repeat(np.arange(len(steps)), counts)
    ends = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts - first_ends, counts)
    # The first tile of a window, from the last one backwards: its step is at least e - reach.
    return Due(slots[owners], ends, first_from(slots, steps, slots[owners], ends - reach), owners + 1)
