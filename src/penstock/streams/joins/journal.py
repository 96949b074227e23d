"""What a join was given since it last told its changes. Given the same again, an equal join is in the same
state.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import polars as pl

from penstock.core.errors import CorruptState
from penstock.streams.joins.columns import read_rows
from penstock.streams.keys import written_table
from penstock.streams.operator import TwoMoment
from penstock.streams.packing import pack, unpack

__all__ = ["Entry", "Journal"]

FORM = "join-changes-1"


@dataclass(frozen=True)
class Entry:
    """A frame of one side, and the watermarks after it."""

    left: bool
    frame: pl.DataFrame
    moment: TwoMoment


class Journal:
    """Frames of each side are written together, so that a change has two tables at most."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []

    def add(self, *, left: bool, frame: pl.DataFrame, moment: TwoMoment) -> None:
        last = self._entries[-1] if self._entries else None
        if last is not None and frame.is_empty() and last.frame.is_empty():
            self._entries.pop()  # time has gone on twice
        self._entries.append(Entry(left, frame, moment))

    def take(self) -> bytes:
        """What was added since the last call, b"" for nothing."""
        entries, self._entries = self._entries, []
        if not entries:
            return b""
        moments = [
            (
                entry.left,
                entry.frame.height,
                entry.moment.left_watermark_ms,
                entry.moment.right_watermark_ms,
                entry.moment.left_idle,
                entry.moment.right_idle,
            )
            for entry in entries
        ]
        tables = {}
        for name, left in (("left", True), ("right", False)):
            frames = [entry.frame for entry in entries if entry.left is left and not entry.frame.is_empty()]
            if frames:
                tables[name] = written_table(pl.concat(frames))
        return pack({"form": FORM, "moments": moments}, tables)

    @staticmethod
    def read(changes: bytes, empty: Sequence[pl.DataFrame]) -> Iterator[Entry]:
        """Raises `CorruptState`, before the first entry. `empty`: frames of the left and the right without
        rows.
        """
        header, arrays = unpack(changes)
        moments = header.get("moments")
        if header.get("form") != FORM or not isinstance(moments, list):
            raise CorruptState("a change of a join is that of something else")
        tables: dict[str, pl.DataFrame] = {}
        for name, expected in zip(("left", "right"), empty, strict=True):
            if name in arrays:
                tables[name] = read_rows(arrays, name, expected)
        heights = {True: 0, False: 0}
        try:
            for left, height, *marks in moments:
                heights[left] += height
                _, _, _, _ = marks
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptState(f"the moments in a change of a join cannot be read: {error}") from error
        for name, left in (("left", True), ("right", False)):
            known = tables[name].height if name in tables else 0
            if known != heights[left]:
                raise CorruptState(f"a change of a join has {known} rows of the {name}, not {heights[left]}")
        return _entries(moments, tables, empty)


def _entries(
    moments: list[tuple[bool, int, int, int, bool, bool]],
    tables: dict[str, pl.DataFrame],
    empty: Sequence[pl.DataFrame],
) -> Iterator[Entry]:
    done = {True: 0, False: 0}
    for left, height, left_watermark_ms, right_watermark_ms, left_idle, right_idle in moments:
        table = tables.get("left" if left else "right", empty[0 if left else 1])
        frame = table.slice(done[left], height)
        done[left] += height
        moment = TwoMoment(
            left_watermark_ms=left_watermark_ms,
            right_watermark_ms=right_watermark_ms,
            now_ms=0,
            left_idle=left_idle,
            right_idle=right_idle,
        )
        yield Entry(left, frame, moment)
