"""Sessions: a key's events with less than a gap between them, given out when no more can join.

Tiles are as long as the gap. Two events of one tile are less than a gap apart, so a tile is never of two
sessions, and a session is a chain of tiles: one ends where the next tile's first event is a gap or more after
the last one. So sessions grow, and are merged by events that come late to the gap between them, by the same
tiles as windows.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from penstock.core.durations import shown_ms
from penstock.core.errors import ConfigurationError
from penstock.streams.operator import TIME, Moment
from penstock.streams.windows.aggregates.extremes import Highest, Max, Min
from penstock.streams.windows.aggregates.part import Aggregate
from penstock.streams.windows.aggregates.sketch import Sketched
from penstock.streams.windows.answers import nothing_read, shown_answers, tiles_read
from penstock.streams.windows.due_times import DueTimes
from penstock.streams.windows.folding import Arrivals, fold, sorted_arrivals
from penstock.streams.windows.store import TileStore
from penstock.streams.windows.tiles import Ints
from penstock.streams.windows.window import (
    CLOSED_TIME,
    KEYS_MAX,
    TIME_MAX_MS,
    WINDOW_END,
    WINDOW_START,
    WindowStatistics,
    checked_times,
)

__all__ = ["SessionConfig", "Sessions"]

FIRST, LAST = Highest(TIME, True, mirrored=True), Highest(TIME, True, mirrored=False)


@dataclass(frozen=True, kw_only=True)
class SessionConfig:
    """Aggregates of each session of a key: of events with less than `gap_ms` from each to the next by event
    time.

    At most `keys_max` keys are kept; beyond, the longest untouched go, with their open sessions.
    """

    keys: tuple[str, ...]
    gap_ms: int
    aggregates: Mapping[str, Aggregate | Sketched]
    keys_max: int = KEYS_MAX

    def __post_init__(self) -> None:
        if not self.keys or not self.aggregates:
            raise ConfigurationError(
                "sessions have no " + ("aggregates" if self.keys else "key"),
                hint="name at least one key column and one aggregate, such as n=count()",
            )
        if self.gap_ms <= 0 or self.keys_max < 1:
            raise ConfigurationError(
                f"sessions with a gap of {shown_ms(self.gap_ms)} and {self.keys_max} keys",
                hint="both must be positive",
            )
        for name in self.aggregates:
            if name in (*self.keys, WINDOW_START, WINDOW_END) or name.startswith("_"):
                raise ConfigurationError(
                    f"an aggregate of sessions cannot be called {name!r}", hint="rename it"
                )

    @property
    def fingerprint(self) -> str:
        """What a snapshot must have been made with, to be used."""
        return repr(("sessions", self.keys, self.gap_ms, sorted(map(repr, self.aggregates.items()))))

    def build(self, state: bytes | None) -> "Sessions":
        """Raises `CorruptState`."""
        return Sessions(self, state)


class Sessions:
    """See `SessionConfig`. Call `take_closed` after each `process`: what it would give is in no snapshot."""

    def __init__(self, config: SessionConfig, state: bytes | None) -> None:
        self._config = config
        aggregates = (*config.aggregates.values(), Min(TIME), Max(TIME))
        self._store = TileStore(config.keys, aggregates, 1, config.keys_max, config.fingerprint)
        self._due = DueTimes()
        """Of each slot a time before which no session of it can close."""
        self._closed: list[pl.DataFrame] = []
        self._none_closed: pl.DataFrame | None = None
        """The answer of most calls, kept once the columns' types are known."""
        if state is not None:
            self._store.load(state)
        self._expect_all()

    @np.errstate(invalid="ignore", over="ignore")
    def process(self, frame: pl.DataFrame, moment: Moment) -> pl.DataFrame:
        """The frame, without events before the watermark, whose sessions may have been given out.

        Raises `InvalidInput` where a key or column is missing or of another type than before.
        """
        store = self._store
        store.learn(frame)
        self._reach_to(moment.watermark_ms)
        if frame.height:
            frame, times_ms = checked_times(frame, store, store.marks["watermark_ms"])
        if frame.height:
            self._take_in(frame, times_ms)
        self._reach_to(moment.next_watermark_ms)
        self._close(store.marks["watermark_ms"])
        if len(store.keys) > self._config.keys_max:
            store.evict()
        return frame

    def take_closed(self) -> pl.DataFrame:
        """Sessions that closed since the last call: the keys, `window_start` (the first event), `window_end`
        (the last one and the gap) and the aggregates, in the order of their ends and keys.
        """
        closed, self._closed = self._closed, []
        if closed:
            return pl.concat(closed) if len(closed) > 1 else closed[0]
        if self._none_closed is not None:
            return self._none_closed.clone()
        nothing = np.zeros(0, np.int64)
        frame = self._closed_frame(nothing, nothing, (nothing, nothing, nothing, nothing))
        if self._store.known:
            self._none_closed = frame
        return frame.clone()

    def take_changes(self) -> bytes:
        return self._store.take_changes()

    def apply_changes(self, changes: bytes) -> None:
        """Raises `CorruptState`; the sessions are of no use then."""
        self._store.apply_changes(changes)
        self._expect_all()

    def snapshot(self) -> bytes:
        return self._store.snapshot()

    def statistics(self) -> WindowStatistics:
        """`tiles` have the length of the gap each."""
        store = self._store
        return WindowStatistics(
            keys=len(store.keys), tiles=store.tiles.count, size_bytes=store.size_bytes, **store.counts
        )

    def _reach_to(self, watermark_ms: int) -> None:
        self._store.mark("watermark_ms", max(watermark_ms, self._store.marks["watermark_ms"]))

    def _take_in(self, frame: pl.DataFrame, times_ms: Ints) -> None:
        store, gap_ms = self._store, self._config.gap_ms
        slots = store.slots_of(frame)
        self._due.reserve(store.keys.slots_end)
        self._due.expect(slots, times_ms + gap_ms)
        order = sorted_arrivals(slots)
        times_ms = times_ms[order]
        arrivals = Arrivals(order, slots[order], times_ms // gap_ms, times_ms, store.read(frame, order))
        for _ in fold(store, arrivals, reading=False, inclusive=True):
            pass

    def _close(self, watermark_ms: int) -> None:
        """Gives out the sessions whose last event is a gap or more before the watermark."""
        if not self._store.known:
            return
        slots = self._due.take(watermark_ms)
        if not len(slots):
            return
        store, gap_ms = self._store, self._config.gap_ms
        of_tiles, steps, at = store.tiles.of(slots)
        if not len(at):
            return
        firsts, lasts = ~store.tiles.taken(FIRST.fields[0], at), store.tiles.taken(LAST.fields[0], at)
        apart = (of_tiles[1:] != of_tiles[:-1]) | (firsts[1:] - lasts[:-1] >= gap_ms)
        lows = np.flatnonzero(np.concatenate(([True], apart)))
        highs = np.append(lows[1:], len(at))
        ends_ms = lasts[highs - 1] + gap_ms
        over = ends_ms <= watermark_ms
        # Of what stays open, the oldest session of a key says when to look again.
        self._due.expect(of_tiles[lows[~over]], ends_ms[~over])
        if not over.any():
            return
        lows, highs = lows[over], highs[over]
        store.add("closed", len(lows))
        bounds = (lows, highs, steps[lows], steps[highs - 1] + 1)
        self._closed.append(self._closed_frame(of_tiles[lows], at, bounds))
        # A key's sessions close from the oldest on: what is removed is all up to the last of them.
        last = np.append(of_tiles[lows][1:] != of_tiles[lows][:-1], True)
        store.remove_before(of_tiles[lows][last], bounds[3][last])
        store.release(of_tiles[lows][last])

    def _closed_frame(self, slots: Ints, at: Ints, bounds: tuple[Ints, Ints, Ints, Ints]) -> pl.DataFrame:
        """Of sessions: their tiles from low up to before high, and the steps of these."""
        store, config = self._store, self._config
        lows, highs, *steps = bounds
        frame = store.keys.values(slots)
        if not store.known:
            return frame.with_columns(
                pl.lit(None, CLOSED_TIME).alias(name) for name in (WINDOW_START, WINDOW_END)
            )
        read = (
            tiles_read(store, slots, (lows, highs, at), (steps[0], steps[1]))
            if len(slots)
            else nothing_read(store)
        )
        shown = shown_answers(store, config.aggregates, [read], count=len(slots), inclusive=True)
        starts_ms, ends_ms = ~read.parts[FIRST][0], read.parts[LAST][0] + config.gap_ms
        times = [
            pl.Series(name, times_ms, dtype=pl.Int64).cast(CLOSED_TIME)
            for name, times_ms in ((WINDOW_START, starts_ms), (WINDOW_END, ends_ms))
        ]
        return frame.hstack([*times, *shown]).sort(WINDOW_END, *config.keys)

    def _expect_all(self) -> None:
        """After what others did to the state, every key is looked at once."""
        end = self._store.keys.slots_end
        self._due.reserve(end)
        self._due.expect(np.arange(end), np.full(end, -TIME_MAX_MS))
