"""What rows read of older tiles when the events of a key do not come in the order of their time.

A row must see each older tile as it was when the row came: with the rows of that tile that came before it, and
without those that come later in the same frame. Which these are is counted for all rows and all tiles of a key
that the frame adds to, at once, in a table of cells; then the spans of tiles are laid out row by row, each tile
as the row saw it, and folded as any others are. So they are folded from the oldest tile to the youngest, and
not a bit depends on how the events were cut into frames.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from penstock.streams.windows.aggregates.part import Columns, Part
from penstock.streams.windows.rows import Rows, Spans
from penstock.streams.windows.tiles import Ints, Merge, ranges

__all__ = ["Folded", "Past"]

CELLS_MAX = 1 << 20
"""Rows times tiles, key by key: some tens of megabytes. A frame with more is folded in parts."""
PAIRS_MAX = 1 << 16
"""Tiles that are laid out at once: as many as the processor's caches hold."""


class Folded(NamedTuple):
    """A part's fields: of all `tiles` with the frame's rows, of each run's tile before them (`carried`), and of
    each row's tile with the row (`running`).
    """

    tiles: Columns
    carried: Columns
    running: Columns


class Past:
    """Rows sorted by key, step and arrival; `ranks` are the places at which they came among those of their key,
    `slots` each run's key.
    """

    def __init__(self, rows: Rows, ranks: Ints, slots: Ints) -> None:
        self._rows = rows
        self._ranks = ranks
        key_of = np.zeros(len(slots), np.int64)
        np.cumsum(slots[1:] != slots[:-1], out=key_of[1:])
        rows_of_keys = np.bincount(key_of, rows.sizes).astype(np.int64)
        self._widths: Ints = rows_of_keys[key_of]
        """Of each run the cells: one for each row of its key."""
        self._ends = self._widths.cumsum()

    @property
    def fits(self) -> bool:
        """Whether the cells are few enough. Those of a single row are."""
        return int(self._ends[-1]) <= max(CELLS_MAX, self._rows.count)

    def fold(self, merge: Merge, lows: Ints, folded: Mapping[Part, Folded]) -> dict[Part, Columns]:
        """For each row what comes of the tiles before its own, from each run's low one on."""
        columns = {
            part: tuple([np.concatenate(pieces) for pieces in zip(*each, strict=True)])
            for part, each in folded.items()
        }
        older: dict[Part, list[Columns]] = {part: [] for part in columns}
        for at, spans in self._laid_out(merge, lows):
            for part, mine in columns.items():
                older[part].append(part.fold(spans, tuple([column[at] for column in mine])))
        return {
            part: tuple([np.concatenate(pieces) for pieces in zip(*each, strict=True)])
            for part, each in older.items()
        }

    def _laid_out(self, merge: Merge, lows: Ints) -> Iterator[tuple[Ints, Spans]]:
        """In parts of bounded size, the tiles of rows' spans one after the other, each as the row saw it: where
        that lies in what `Folded` has, one after the other.
        """
        rows, cells = self._rows, self._seen(len(merge.steps))
        cells_of_tile = np.full(len(merge.steps), -1)
        cells_of_tile[merge.runs_at] = self._ends - self._widths
        row_lows = lows[rows.run_of]
        lengths = merge.runs_at[rows.run_of] - row_lows
        ends = lengths.cumsum()
        cuts = np.unique(ends.searchsorted(np.arange(PAIRS_MAX, int(ends[-1]), PAIRS_MAX)) + 1)
        firsts = [0, *cuts[cuts < rows.count].tolist()]
        for first, last in zip(firsts, [*firsts[1:], rows.count], strict=True):
            mine = lengths[first:last]
            highs = mine.cumsum()
            at = ranges(row_lows[first:last], mine)
            own = cells_of_tile[at]
            seen = cells[own + self._ranks[first:last].repeat(mine)]
            yield np.where(own >= 0, seen, at), Spans(highs - mine, highs, laid_out=True)

    def _seen(self, tiles: int) -> Ints:
        """For each run and each row of its key, in the order of arrival: what the row saw of the run's tile.

        As runs follow each other as their cells do, the marks counted over all cells so far are the number of
        the run's last row that had come by then.
        """
        rows, widths = self._rows, self._widths
        came = np.zeros(int(self._ends[-1]), np.bool_)
        came[(self._ends - widths)[rows.run_of] + self._ranks] = True
        counts = came.cumsum()
        carried = np.arange(tiles, tiles + len(widths))
        running = counts + (tiles + len(widths) - 1)
        return np.where(counts > rows.starts.repeat(widths), running, carried.repeat(widths))
