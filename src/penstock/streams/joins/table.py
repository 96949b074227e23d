"""A stream joined with a table: each event gets what the table has under its key, or nulls.

A table is a topic whose records say what a key has from then on, or that it is gone. As the event sees it:

- `latest`: what was read of the table by then, the last record of the key. Nothing waits.
- `as_of`: what the table had at the event's time. The event waits until the table's watermark has passed it, or
  the table is idle. Equal to Polars' `join_asof` over the whole history with the time-to-live as tolerance, in
  whichever order both are read.

In either a record holds for its time-to-live by event time at most: later events get nulls.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
import polars as pl

from penstock.core.durations import shown_ms
from penstock.core.errors import ConfigurationError, CorruptState
from penstock.streams.joins.columns import JoinColumns, read_rows, rows_at
from penstock.streams.joins.journal import Journal
from penstock.streams.joins.key_codes import KeyCodes
from penstock.streams.joins.sorted_index import NO_CODE
from penstock.streams.joins.versions import Versions
from penstock.streams.joins.waiting import WaitingRows
from penstock.streams.keys import written_table
from penstock.streams.operator import DELETED, OFFSET, TIME, TwoMoment
from penstock.streams.packing import pack, unpack
from penstock.streams.watermark import BEGINNING_MS

__all__ = ["TableJoin", "TableJoinConfig", "TableJoinStatistics"]

FORM = "table-join-1"
TTL_MS_MAX = 100 * 366 * 86_400_000
KEYS_MAX = 100_000_000
FOR_EVER_MS = 2**62


@dataclass(frozen=True, kw_only=True)
class TableJoinConfig:
    """The right of `columns` is the table. At most `keys_max` keys are kept: those go first that were written
    the longest ago. At most `waiting_rows_max` events wait: the oldest go on with what is known by then.
    """

    columns: JoinColumns
    ttl_ms: int
    mode: Literal["latest", "as_of"] = "latest"
    keys_max: int = 2_000_000
    waiting_rows_max: int = 1_000_000

    def __post_init__(self) -> None:
        self.columns.check()
        if self.mode not in ("latest", "as_of"):
            raise ConfigurationError(
                f"a table cannot be joined as {self.mode!r}", hint='mode is "latest" or "as_of"'
            )
        if not 0 <= self.ttl_ms <= TTL_MS_MAX:
            raise ConfigurationError(
                f"a table cannot keep its records for {shown_ms(self.ttl_ms)}",
                hint="0 <= ttl <= a hundred years",
            )
        if not (1 <= self.keys_max <= KEYS_MAX and 1 <= self.waiting_rows_max <= KEYS_MAX):
            raise ConfigurationError(
                f"a table join cannot keep {self.keys_max} keys and {self.waiting_rows_max} rows waiting",
                hint="both are from 1 to 100,000,000",
            )

    @property
    def schema(self) -> pl.Schema:
        """The columns that come out, without the reserved ones."""
        return self.columns.schema

    def build(self, state: bytes | None) -> "TableJoin":
        """Raises `CorruptState`."""
        join = TableJoin(self)
        if state:
            join.restore(state)
        return join


class TableJoinStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Keys of the table and versions of them that are kept; rows that wait; keys that had to go, and rows that
    went on before the table's watermark had passed them, for there were too many.
    """

    keys: int
    versions: int
    waiting_rows: int
    keys_evicted: int
    rows_hurried: int


class _Numbers(msgspec.Struct, kw_only=True):
    left_ms: int
    right_ms: int
    keys_evicted: int
    rows_hurried: int
    compact_at: int
    compacted_ms: int


class TableJoin:
    """An operator of two inputs; the right one is the table. Rows keep their times and offsets.

    A frame of the table may have the column `_deleted`.
    """

    def __init__(self, config: TableJoinConfig) -> None:
        self._config = config
        self._as_of = config.mode == "as_of"
        self._codes = KeyCodes(config.columns.left_key)
        self._versions = Versions(by_time=self._as_of, ttl_ms=config.ttl_ms, keys_max=config.keys_max)
        self._waiting = WaitingRows(rows_max=config.waiting_rows_max)
        self._empty = (config.columns.empty(left=True), config.columns.empty_table())
        self._left_ms = BEGINNING_MS
        self._right_ms = BEGINNING_MS
        self._journal = Journal()

    def process_left(self, frame: pl.DataFrame, moment: TwoMoment) -> Iterator[pl.DataFrame]:
        frame = frame[self._empty[0].columns]
        waited = len(self._waiting)
        result = self._change_left(frame, moment)
        if waited or len(self._waiting):
            self._journal.add(left=True, frame=frame, moment=moment)
        elif not frame.is_empty():
            # It went through and changed nothing but how far time has come.
            self._journal.add(left=True, frame=frame.clear(), moment=moment)
        return iter(result)

    def process_right(self, frame: pl.DataFrame, moment: TwoMoment) -> Iterator[pl.DataFrame]:
        if DELETED not in frame.columns:
            frame = frame.hstack([pl.Series(DELETED, [False]).new_from_index(0, frame.height)])
        frame = frame[self._empty[1].columns]
        waited = len(self._waiting)
        result = self._change_right(frame, moment)
        if not frame.is_empty() or waited:
            self._journal.add(left=False, frame=frame, moment=moment)
        return iter(result)

    def output_watermark_ms(self, moment: TwoMoment) -> int:
        if not self._as_of or moment.right_idle:
            return moment.left_watermark_ms
        return min(moment.left_watermark_ms, moment.right_watermark_ms)

    def take_changes(self) -> bytes:
        return self._journal.take()

    def apply_changes(self, changes: bytes) -> None:
        """Raises `CorruptState`."""
        if not changes:
            return
        for entry in Journal.read(changes, self._empty):
            change = self._change_left if entry.left else self._change_right
            change(entry.frame, entry.moment)

    def snapshot(self) -> bytes:
        versions, _ = self._versions.contents(self._empty[1])
        header: dict[str, object] = {
            "form": FORM,
            "shape": self._shape(),
            "numbers": {
                "left_ms": self._left_ms,
                "right_ms": self._right_ms,
                "keys_evicted": self._versions.keys_evicted,
                "rows_hurried": self._waiting.rows_hurried,
                "compact_at": self._versions.compact_at,
                "compacted_ms": self._versions.compacted_ms,
            },
        }
        waiting = self._waiting.contents(self._empty[0])
        return pack(header, {"versions": written_table(versions), "waiting": written_table(waiting)})

    def restore(self, state: bytes) -> None:
        """Of a join that was given nothing yet. Raises `CorruptState`."""
        header, arrays = unpack(state)
        if header.get("form") != FORM or header.get("shape") != self._shape():
            raise CorruptState("the state is not that of this table join: its keys, mode or columns changed")
        versions = read_rows(arrays, "versions", self._empty[1])
        waiting = read_rows(arrays, "waiting", self._empty[0])
        try:
            numbers = msgspec.convert(header.get("numbers"), _Numbers)
        except msgspec.ValidationError as error:
            raise CorruptState(f"the state of a table join cannot be read: {error}") from error
        self._left_ms, self._right_ms = numbers.left_ms, numbers.right_ms
        self._versions.compact_at, self._versions.compacted_ms = numbers.compact_at, numbers.compacted_ms
        self._insert(versions)
        self._versions.keys_evicted = numbers.keys_evicted
        self._waiting.insert(waiting)
        self._waiting.rows_hurried = numbers.rows_hurried

    def statistics(self) -> TableJoinStatistics:
        return TableJoinStatistics(
            keys=self._versions.keys,
            versions=len(self._versions),
            waiting_rows=len(self._waiting),
            keys_evicted=self._versions.keys_evicted,
            rows_hurried=self._waiting.rows_hurried,
        )

    def _change_left(self, frame: pl.DataFrame, moment: TwoMoment) -> list[pl.DataFrame]:
        if self._as_of:
            self._waiting.insert(frame)
            return self._advance(moment)
        joined = [] if frame.is_empty() else [self._joined(frame)]
        return joined + self._advance(moment)

    def _change_right(self, frame: pl.DataFrame, moment: TwoMoment) -> list[pl.DataFrame]:
        if not frame.is_empty():
            self._insert(frame)
        return self._advance(moment)

    def _insert(self, frame: pl.DataFrame) -> None:
        if frame.is_empty():
            return
        codes = self._codes.codes(frame, self._config.columns.right_key)
        if (codes == NO_CODE).any():
            whole = codes != NO_CODE
            frame, codes = rows_at(frame, np.flatnonzero(whole)), codes[whole]
        times = frame.get_column(TIME).to_numpy()
        deletions = frame.get_column(DELETED)
        if deletions.null_count():
            deletions = deletions.fill_null(value=False)
        deleted = deletions.to_numpy()
        self._versions.insert(frame, codes, times, deleted)

    def _advance(self, moment: TwoMoment) -> list[pl.DataFrame]:
        """Rows that wait no longer, joined; and what nobody will ask for is let go of."""
        self._left_ms = max(self._left_ms, moment.left_watermark_ms)
        self._right_ms = max(self._right_ms, moment.right_watermark_ms)
        ready = (
            self._waiting.take(FOR_EVER_MS if moment.right_idle else self._right_ms) if self._as_of else None
        )
        joined = [] if ready is None else [self._joined(ready)]
        oldest_ms = self._waiting.oldest_ms
        bound_ms = self._left_ms if oldest_ms is None else min(self._left_ms, oldest_ms)
        self._versions.advance(bound_ms, self._right_ms)
        if self._codes.is_full:
            self._codes.prune(self._versions.codes())
        return joined

    def _joined(self, frame: pl.DataFrame) -> pl.DataFrame:
        columns = self._config.columns
        found = self._versions.find(self._codes.codes(frame), frame.get_column(TIME).to_numpy())
        if found is None or not columns.renamed or (found[1] < 0).all():
            missing = [pl.lit(None, columns.right[old]).alias(new) for old, new in columns.renamed.items()]
            return frame.select(*columns.left, *missing, TIME, OFFSET)
        versions, numbers = found
        # Frames are taken apart and put together without Polars' planner, which costs more than the rows do.
        values = versions[list(columns.renamed)]
        if (absent := numbers < 0).any():
            values = values[pl.Series(numbers).set(pl.Series(absent), None)]
        else:
            values = rows_at(values, numbers)
        values.columns = list(columns.renamed.values())
        return frame[list(columns.left)].hstack([*values.get_columns(), *frame[[TIME, OFFSET]].get_columns()])

    def _shape(self) -> list[object]:
        """What has to be the same for a state to be of use."""
        config, columns = self._config, self._config.columns
        schemas = [
            [[name, str(dtype)] for name, dtype in side.items()] for side in (columns.left, columns.right)
        ]
        return [list(columns.left_key), list(columns.right_key), schemas, config.mode, config.ttl_ms]
