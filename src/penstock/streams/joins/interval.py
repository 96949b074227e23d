"""Two streams joined within an interval of event time: a left event at t meets right events at [t - b, t + a].

A row is kept until the other side's watermark says that nothing can meet it any more. So each pair of events
that were not late by their own side's watermark is found exactly once, in whichever order the sides are read
and however they are cut into frames. Exceptions are counted: rows that had to go because a side had too many.

(The semantics are those of Flink's interval join, with the outer one of its SQL.)
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from penstock.core.durations import shown_ms
from penstock.core.errors import ConfigurationError, CorruptState
from penstock.streams.joins.columns import JoinColumns, read_rows, rows_at
from penstock.streams.joins.journal import Journal
from penstock.streams.joins.key_codes import KeyCodes
from penstock.streams.joins.row_buffer import Found, RowBuffer
from penstock.streams.joins.sorted_index import NO_CODE
from penstock.streams.keys import written_table
from penstock.streams.operator import OFFSET, TIME, TwoMoment
from penstock.streams.packing import pack, unpack
from penstock.streams.watermark import BEGINNING_MS

__all__ = ["IntervalJoin", "IntervalJoinConfig", "IntervalJoinStatistics"]

FORM = "interval-join-1"
INTERVAL_MS_MAX = 10 * 366 * 86_400_000
ROWS_MAX = 100_000_000

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class IntervalJoinConfig:
    """`how="left"` also gives each left event that met none, with nulls, once the right's watermark is past it.

    At most `rows_max` rows are kept of each side. What comes out has at most `chunk_rows` rows at a time.
    """

    columns: JoinColumns
    before_ms: int
    after_ms: int
    how: Literal["inner", "left"] = "inner"
    rows_max: int = 2_000_000
    chunk_rows: int = 50_000

    def __post_init__(self) -> None:
        self.columns.check()
        lengths = (self.before_ms, self.after_ms, self.before_ms + self.after_ms)
        if any(abs(length) > INTERVAL_MS_MAX for length in lengths) or lengths[2] < 0:
            raise ConfigurationError(
                f"a join from {shown_ms(self.before_ms)} before to {shown_ms(self.after_ms)} after cannot work",
                hint="before + after is at least 0, and each at most ten years",
            )
        if self.how not in ("inner", "left"):
            raise ConfigurationError(
                f"a join cannot be how={self.how!r}",
                hint='how is "inner" or "left"; for a right one exchange them',
            )
        if not (1 <= self.rows_max <= ROWS_MAX and 1 <= self.chunk_rows <= ROWS_MAX):
            raise ConfigurationError(
                f"a join cannot keep {self.rows_max} rows and give {self.chunk_rows} at a time",
                hint="both are from 1 to 100,000,000",
            )

    @property
    def schema(self) -> pl.Schema:
        """The columns that come out, without the reserved ones."""
        return self.columns.schema

    def build(self, state: bytes | None) -> "IntervalJoin":
        """Raises `CorruptState`."""
        join = IntervalJoin(self)
        if state:
            join.restore(state)
        return join


class IntervalJoinStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Rows that are kept of each side and the keys that are known; pairs that were found; rows that had to go
    too early.
    """

    left_rows: int
    right_rows: int
    keys: int
    pairs: int
    left_rows_evicted: int
    right_rows_evicted: int


class _Numbers(msgspec.Struct, kw_only=True):
    left_ms: int
    right_ms: int
    pairs: int
    left_evicted: int
    right_evicted: int


class IntervalJoin:
    """An operator of two inputs.

    The time of a pair is that of the later event, and its offset the left's, so that no pair is behind
    `output_watermark_ms`. In which order the pairs of one row come is not defined.
    """

    def __init__(self, config: IntervalJoinConfig) -> None:
        self._config = config
        self._codes = KeyCodes(config.columns.left_key)
        self._left = RowBuffer(rows_max=config.rows_max, tells=config.how == "left")
        self._right = RowBuffer(rows_max=config.rows_max, tells=False)
        self._moment = TwoMoment(left_watermark_ms=BEGINNING_MS, right_watermark_ms=BEGINNING_MS, now_ms=0)
        self._pairs = 0
        self._renamed = config.columns.renamed
        self._names = {left: config.columns.empty(left=left).columns for left in (True, False)}
        self._given = {True: [*config.columns.left, TIME, OFFSET], False: [*self._renamed, TIME]}
        """The columns of either side that make a pair."""
        self._journal = Journal()

    def process_left(self, frame: pl.DataFrame, moment: TwoMoment) -> Iterator[pl.DataFrame]:
        return self._process(frame, moment, left=True)

    def process_right(self, frame: pl.DataFrame, moment: TwoMoment) -> Iterator[pl.DataFrame]:
        return self._process(frame, moment, left=False)

    def output_watermark_ms(self, moment: TwoMoment) -> int:
        right_ms = moment.right_watermark_ms
        if self._config.how == "left":
            right_ms = min(right_ms, right_ms - self._config.after_ms)
        return min(moment.left_watermark_ms, right_ms)

    def take_changes(self) -> bytes:
        return self._journal.take()

    def apply_changes(self, changes: bytes) -> None:
        """Raises `CorruptState`."""
        if not changes:
            return
        columns = self._config.columns
        for entry in Journal.read(changes, (columns.empty(left=True), columns.empty(left=False))):
            self._change(entry.frame, entry.moment, left=entry.left)

    def snapshot(self) -> bytes:
        columns = self._config.columns
        left, matched = self._left.contents(columns.empty(left=True))
        right, _ = self._right.contents(columns.empty(left=False))
        header: dict[str, object] = {
            "form": FORM,
            "shape": self._shape(),
            "numbers": {
                "left_ms": self._moment.left_watermark_ms,
                "right_ms": self._moment.right_watermark_ms,
                "pairs": self._pairs,
                "left_evicted": self._left.rows_evicted,
                "right_evicted": self._right.rows_evicted,
            },
        }
        arrays: dict[str, npt.NDArray[np.generic]] = {
            "left": written_table(left),
            "right": written_table(right),
            "matched": matched,
        }
        return pack(header, arrays)

    def restore(self, state: bytes) -> None:
        """Of a join that was given nothing yet. Raises `CorruptState`."""
        header, arrays = unpack(state)
        if header.get("form") != FORM or header.get("shape") != self._shape():
            raise CorruptState("the state is not that of this join: its keys, interval or columns have changed")
        columns = self._config.columns
        left = read_rows(arrays, "left", columns.empty(left=True))
        right = read_rows(arrays, "right", columns.empty(left=False))
        try:
            numbers = msgspec.convert(header["numbers"], _Numbers)
            matched = arrays["matched"].astype(np.bool_)
        except (KeyError, TypeError, msgspec.ValidationError) as error:
            raise CorruptState(f"the state of a join cannot be read: {error}") from error
        if len(matched) != left.height:
            raise CorruptState(f"the state of a join has {left.height} rows of the left, {len(matched)} marks")
        self._keep(left, self._codes_of(left, left=True), matched, left=True)
        self._keep(right, self._codes_of(right, left=False), np.zeros(right.height, np.bool_), left=False)
        self._pairs = numbers.pairs
        self._left.rows_evicted, self._right.rows_evicted = numbers.left_evicted, numbers.right_evicted
        self._advance(
            TwoMoment(left_watermark_ms=numbers.left_ms, right_watermark_ms=numbers.right_ms, now_ms=0)
        )

    def statistics(self) -> IntervalJoinStatistics:
        return IntervalJoinStatistics(
            left_rows=len(self._left),
            right_rows=len(self._right),
            keys=len(self._codes),
            pairs=self._pairs,
            left_rows_evicted=self._left.rows_evicted,
            right_rows_evicted=self._right.rows_evicted,
        )

    def _process(self, frame: pl.DataFrame, moment: TwoMoment, *, left: bool) -> Iterator[pl.DataFrame]:
        if frame.is_empty() and not self._is_later(moment):
            return iter(())
        frame = frame[self._names[left]]
        found, unmatched = self._change(frame, moment, left=left)
        self._journal.add(left=left, frame=frame, moment=moment)
        return self._output(frame, found, unmatched, left=left)

    def _is_later(self, moment: TwoMoment) -> bool:
        before = self._moment
        return (
            moment.left_watermark_ms > before.left_watermark_ms
            or moment.right_watermark_ms > before.right_watermark_ms
        )

    def _change(
        self, frame: pl.DataFrame, moment: TwoMoment, *, left: bool
    ) -> tuple[Found | None, list[pl.DataFrame]]:
        """All that a frame does to the state: what it found, and left rows that will meet none any more."""
        found = None
        unmatched: list[pl.DataFrame] = []
        if not frame.is_empty():
            codes = self._codes_of(frame, left=left)
            found = self._find(frame, codes, left=left)
            self._pairs += found.pairs
            matched = np.zeros(frame.height, np.bool_)
            matched[found.asked] = True
            self._keep(frame, codes, matched, left=left)
        unmatched += self._advance(moment)
        unmatched += self._left.evict()
        self._right.evict()
        if self._codes.is_full:
            self._codes.prune([*self._left.codes(), *self._right.codes()])
        return found, unmatched

    def _find(self, frame: pl.DataFrame, codes: Ints, *, left: bool) -> Found:
        times = frame.get_column(TIME).to_numpy()
        before_ms, after_ms = self._config.before_ms, self._config.after_ms
        if left:
            return self._right.find(codes, times - before_ms, times + after_ms, mark=False)
        return self._left.find(codes, times - after_ms, times + before_ms, mark=self._config.how == "left")

    def _keep(self, frame: pl.DataFrame, codes: Ints, matched: Mask, *, left: bool) -> None:
        """Rows without a key are only kept where somebody asks for those that meet none."""
        times = frame.get_column(TIME).to_numpy()
        if not (left and self._config.how == "left") and (codes == NO_CODE).any():
            whole = codes != NO_CODE
            frame, codes = rows_at(frame, np.flatnonzero(whole)), codes[whole]
            times, matched = times[whole], matched[whole]
        (self._left if left else self._right).insert(frame, codes, times, matched)

    def _advance(self, moment: TwoMoment) -> list[pl.DataFrame]:
        before = self._moment
        self._moment = TwoMoment(
            left_watermark_ms=max(before.left_watermark_ms, moment.left_watermark_ms),
            right_watermark_ms=max(before.right_watermark_ms, moment.right_watermark_ms),
            now_ms=moment.now_ms,
        )
        self._right.expire(self._moment.left_watermark_ms - self._config.before_ms)
        return self._left.expire(self._moment.right_watermark_ms - self._config.after_ms)

    def _codes_of(self, frame: pl.DataFrame, *, left: bool) -> Ints:
        return self._codes.codes(frame, None if left else self._config.columns.right_key)

    def _output(
        self, frame: pl.DataFrame, found: Found | None, unmatched: list[pl.DataFrame], *, left: bool
    ) -> Iterator[pl.DataFrame]:
        if found is not None:
            asking_columns = frame[self._given[left]]
            for asking, met in found.chunks(self._config.chunk_rows, self._given[not left]):
                asked = rows_at(asking_columns, asking)
                yield self._paired(asked, met) if left else self._paired(met, asked)
        missing = [pl.lit(None, dtype).alias(name) for name, dtype in self._right_schema().items()]
        for rows in unmatched:
            for piece in rows.iter_slices(self._config.chunk_rows):
                yield piece.select(*self._config.columns.left, *missing, TIME, OFFSET)

    def _paired(self, left: pl.DataFrame, right: pl.DataFrame) -> pl.DataFrame:
        # Frames are taken apart and put together without Polars' planner, which costs more than the rows do.
        values = right[list(self._renamed)]
        values.columns = list(self._renamed.values())
        later = np.maximum(left.get_column(TIME).to_numpy(), right.get_column(TIME).to_numpy())
        rest = [*values.get_columns(), pl.Series(TIME, later), left.get_column(OFFSET)]
        return left[list(self._config.columns.left)].hstack(rest)

    def _right_schema(self) -> dict[str, pl.DataType]:
        columns = self._config.columns
        return {new: columns.right[old] for old, new in columns.renamed.items()}

    def _shape(self) -> list[object]:
        """What has to be the same for a state to be of use."""
        config, columns = self._config, self._config.columns
        schemas = [
            [[name, str(dtype)] for name, dtype in side.items()] for side in (columns.left, columns.right)
        ]
        keys = [list(columns.left_key), list(columns.right_key)]
        return [keys, schemas, config.before_ms, config.after_ms, config.how]
