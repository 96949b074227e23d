"""Events that were seen before are dropped: what is sent twice counts once.

An event is a duplicate if one with the same key went on earlier whose time is at most `within_ms` from its own,
before or after. Duplicates themselves do not count as seen, so a key that comes all the time goes on now and
then. An event whose key has a null is no duplicate of anything.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from penstock.core.durations import shown_ms
from penstock.core.errors import ConfigurationError, CorruptState
from penstock.streams.joins.columns import rows_at
from penstock.streams.joins.key_codes import KeyCodes
from penstock.streams.joins.row_buffer import RowBuffer
from penstock.streams.joins.sorted_index import NO_CODE
from penstock.streams.keys import read_table, written_table
from penstock.streams.operator import TIME, Moment
from penstock.streams.packing import pack, unpack
from penstock.streams.watermark import BEGINNING_MS

__all__ = ["Deduplicate", "DeduplicateConfig", "DeduplicateStatistics"]

FORM = "deduplicate-1"
WITHIN_MS_MAX = 10 * 366 * 86_400_000
KEYS_MAX = 100_000_000
ROUNDS_MAX = 8
"""So many events of one key in a frame are looked at all keys at once; what is left after that one by one."""

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class DeduplicateConfig:
    """At most `events_max` events are remembered, those with the latest times; each for `within_ms` of event
    time.
    """

    key: Sequence[str]
    within_ms: int
    events_max: int = 5_000_000

    def __post_init__(self) -> None:
        if not self.key:
            raise ConfigurationError("duplicates have no key to be told by", hint="name its columns")
        if not (0 <= self.within_ms <= WITHIN_MS_MAX and 1 <= self.events_max <= KEYS_MAX):
            raise ConfigurationError(
                f"duplicates within {shown_ms(self.within_ms)} among {self.events_max} events cannot be told",
                hint="0 <= within <= ten years, 1 <= events_max <= 100,000,000",
            )

    def build(self, state: bytes | None) -> "Deduplicate":
        """Raises `CorruptState`."""
        deduplicate = Deduplicate(self)
        if state:
            deduplicate.restore(state)
        return deduplicate


class DeduplicateStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Events and keys that are remembered; how many were dropped, and how many were forgotten early."""

    events: int
    keys: int
    duplicates: int
    events_evicted: int


class _Entry(msgspec.Struct, array_like=True):
    """A frame: how many of its events went on, how many did not, and the watermark after it."""

    height: int
    duplicates: int
    watermark_ms: int


class _Changes(msgspec.Struct, kw_only=True):
    form: str
    key: list[str]
    within_ms: int
    entries: list[_Entry]
    events_evicted: int | None = None


class Deduplicate:
    """An operator: gives what was not seen, in its order."""

    def __init__(self, config: DeduplicateConfig) -> None:
        self._config = config
        self._names = [*config.key, TIME]
        self._codes = KeyCodes(config.key)
        self._seen = RowBuffer(rows_max=config.events_max, tells=False)
        self._duplicates = 0
        self._watermark_ms = BEGINNING_MS
        self._entries: list[_Entry] = []
        self._frames: list[pl.DataFrame] = []

    def process(self, frame: pl.DataFrame, moment: Moment) -> pl.DataFrame:
        """Raises `InvalidInput` where a key column is missing or of another type than before."""
        if frame.is_empty():
            self._seen.expire(moment.next_watermark_ms - self._config.within_ms)
            return frame
        codes = self._codes.codes(frame)
        times = frame.get_column(TIME).to_numpy()
        fresh = self._fresh(codes, times)
        whole = bool(fresh.all())
        rows = frame if whole else rows_at(frame, np.flatnonzero(fresh))
        seen = rows[self._names]
        entry = _Entry(rows.height, frame.height - rows.height, moment.next_watermark_ms)
        self._remember(seen, codes if whole else codes[fresh], entry)
        self._entries.append(entry)
        self._frames.append(seen)
        return rows

    def take_changes(self) -> bytes:
        entries, self._entries = self._entries, []
        frames, self._frames = self._frames, []
        return self._packed(entries, pl.concat(frames)) if entries else b""

    def apply_changes(self, changes: bytes) -> None:
        """Raises `CorruptState`."""
        if not changes:
            return
        read, rows = self._read(changes)
        start = 0
        for entry in read.entries:
            seen = rows.slice(start, entry.height)
            # Where there are none, nor are there types of their key.
            codes = self._codes.codes(seen) if entry.height else np.zeros(0, np.int64)
            self._remember(seen, codes, entry)
            start += entry.height

    def snapshot(self) -> bytes:
        rows, _ = self._seen.contents(pl.DataFrame(schema=dict.fromkeys(self._names, pl.Int64())))
        entry = _Entry(rows.height, self._duplicates, self._watermark_ms)
        return self._packed([entry], rows, events_evicted=self._seen.rows_evicted)

    def restore(self, state: bytes) -> None:
        """Of one that has seen nothing yet. Raises `CorruptState`."""
        read, _ = self._read(state)
        self.apply_changes(state)
        self._seen.rows_evicted = read.events_evicted or 0

    def statistics(self) -> DeduplicateStatistics:
        return DeduplicateStatistics(
            events=len(self._seen),
            keys=len(self._codes),
            duplicates=self._duplicates,
            events_evicted=self._seen.rows_evicted,
        )

    def _fresh(self, codes: Ints, times: Ints) -> Mask:
        within_ms = self._config.within_ms
        found = self._seen.find(codes, times - within_ms, times + within_ms, mark=False)
        fresh = np.ones(len(codes), np.bool_)
        fresh[found.asked] = False
        open_rows = np.flatnonzero(fresh & (codes != NO_CODE))
        fresh[open_rows] = _first_ones(codes[open_rows], times[open_rows], within_ms)
        return fresh

    def _remember(self, seen: pl.DataFrame, codes: Ints, entry: _Entry) -> None:
        self._duplicates += entry.duplicates
        self._watermark_ms = max(self._watermark_ms, entry.watermark_ms)
        if (codes == NO_CODE).any():
            whole = codes != NO_CODE
            seen, codes = rows_at(seen, np.flatnonzero(whole)), codes[whole]
        times = seen.get_column(TIME).to_numpy()
        self._seen.insert(seen, codes, times, np.zeros(len(codes), np.bool_))
        self._seen.expire(self._watermark_ms - self._config.within_ms)
        self._seen.evict()
        if self._codes.is_full:
            self._codes.prune(self._seen.codes())

    def _packed(self, entries: list[_Entry], rows: pl.DataFrame, *, events_evicted: int | None = None) -> bytes:
        changes = _Changes(
            form=FORM,
            key=list(self._config.key),
            within_ms=self._config.within_ms,
            entries=entries,
            events_evicted=events_evicted,
        )
        return pack(msgspec.to_builtins(changes), {"rows": written_table(rows)})

    def _read(self, data: bytes) -> tuple[_Changes, pl.DataFrame]:
        header, arrays = unpack(data)
        try:
            changes = msgspec.convert(header, _Changes)
            rows = read_table(arrays["rows"].view(np.uint8))
        except (KeyError, msgspec.ValidationError) as error:
            raise CorruptState(f"what is kept of duplicates cannot be read: {error}") from error
        config = self._config
        if (changes.form, changes.key, changes.within_ms) != (FORM, list(config.key), config.within_ms):
            raise CorruptState("what is kept of duplicates is that of another key or time")
        if rows.columns != self._names or rows.height != sum(entry.height for entry in changes.entries):
            raise CorruptState(f"what is kept of duplicates has {rows.height} rows of {rows.columns}")
        return changes, rows


def _first_ones(codes: Ints, times: Ints, within_ms: int) -> Mask:
    """Of rows in their order, those that are no duplicates of an earlier one of these that is none itself."""
    first = np.zeros(len(codes), np.bool_)
    rows = np.arange(len(codes))
    for _ in range(ROUNDS_MAX):
        # `np.unique` would put them into a hash table, at some microseconds each.
        ordered = rows[np.argsort(codes[rows], kind="stable")]
        starts = np.ones(len(rows), np.bool_)
        np.not_equal(codes[ordered[1:]], codes[ordered[:-1]], out=starts[1:])
        firsts = ordered[starts]
        first[firsts] = True
        if len(firsts) == len(rows):
            return first
        far = np.abs(times[ordered] - times[firsts][np.cumsum(starts) - 1]) > within_ms
        rows = ordered[far]
        if len(rows) == 0:
            return first
    seen: dict[int, list[int]] = {}
    for row, code, time in zip(rows.tolist(), codes[rows].tolist(), times[rows].tolist(), strict=True):
        known = seen.setdefault(code, [])
        place = bisect_left(known, time - within_ms)
        if place == len(known) or known[place] > time + within_ms:
            known.insert(place, time)
            first[row] = True
    return first
