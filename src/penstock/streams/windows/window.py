"""Windows by key over event time: read as of each event, or given out once they have closed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from penstock.core.durations import shown_ms
from penstock.core.errors import ConfigurationError, InvalidInput
from penstock.streams.operator import TIME, Moment
from penstock.streams.windows.aggregates.part import Aggregate
from penstock.streams.windows.aggregates.sketch import Sketched
from penstock.streams.windows.answers import nothing_read, shown_answers, tiles_read
from penstock.streams.windows.closing import Due, due_windows
from penstock.streams.windows.folding import Arrivals, Read, fold, sorted_arrivals
from penstock.streams.windows.store import TileStore
from penstock.streams.windows.tiles import Ints, distinct
from penstock.streams.windows.updates import Updates

__all__ = ["Window", "WindowConfig", "WindowStatistics", "checked_times"]

TIME_MAX_MS = 1 << 46
"""2,200 years to both sides of 1970: what is beyond is no time of an event."""
KEYS_MAX = 4_000_000
SWEEP_TILES_MIN = 1 << 14
"""Fewer, about a megabyte, may lie. Whose have expired comes again, more often than not: telling the changelog
of the same keys again and again cost a frame of 500 rows as much as its windows did.
"""
SWEEP_WINDOWS_MAX = 16
"""Without as many rows as there are tiles, what has expired goes after so many windows' lengths."""
WINDOW_START = "window_start"
WINDOW_END = "window_end"
CLOSED_TIME = pl.Datetime("ms", "UTC")


@dataclass(frozen=True, kw_only=True)
class WindowStatistics:
    """`dropped` events were older than what had been closed; `evicted` keys made room for others, `expired`
    ones had nothing left in any window. `size_bytes` are the arena's, without the keys themselves.
    """

    keys: int
    tiles: int
    size_bytes: int
    dropped: int
    evicted: int
    expired: int
    closed: int


@dataclass(frozen=True, kw_only=True)
class WindowConfig:
    """Aggregates of a key's events in the last `over_ms`, in steps of `every_ms`; None for steps of 1 ms.

    `reading`: each event gets them as columns, as of its arrival, with itself in them if `inclusive`: of the
    steps that end with the event's own. `closing`: windows that end at multiples of `every_ms` are given out,
    once, when the watermark has reached their end. At most `keys_max` keys are kept; beyond, the longest
    untouched go.

    `updates`: of the keys that a frame touches it is told what their windows come to from now on; or of each of
    its events, which then are in the order of their times. The stream's time is `lateness_ms` ahead of the
    watermark, or at the newest event.
    """

    keys: tuple[str, ...]
    over_ms: int
    every_ms: int | None
    aggregates: Mapping[str, Aggregate | Sketched]
    reading: bool = True
    closing: bool = False
    inclusive: bool = True
    keys_max: int = KEYS_MAX
    updates: Literal["keys", "events"] | None = None
    lateness_ms: int = 0

    def __post_init__(self) -> None:
        if not self.keys or not self.aggregates:
            raise ConfigurationError(
                "a window has no " + ("aggregates" if self.keys else "key"),
                hint="name at least one key column and one aggregate, such as n=count()",
            )
        if self.over_ms <= 0 or self.step_ms <= 0 or self.over_ms % self.step_ms:
            raise ConfigurationError(
                f"a window over {shown_ms(self.over_ms)} cannot go by {shown_ms(self.step_ms)}",
                hint="make the window's length a multiple of its step",
            )
        if self.closing and self.every_ms is None:
            raise ConfigurationError(
                "a sliding window never closes", hint="give it a step (every), or only read it"
            )
        taken = [name for name in self.aggregates if name in self.keys or name.startswith("_")]
        taken += [name for name in (WINDOW_START, WINDOW_END) if self.closing and name in self.aggregates]
        if taken:
            raise ConfigurationError(f"a window's aggregate cannot be called {taken[0]!r}", hint="rename it")
        if self.keys_max < 1:
            raise ConfigurationError("a window must be allowed at least one key (keys_max)")

    @property
    def step_ms(self) -> int:
        return 1 if self.every_ms is None else self.every_ms

    @property
    def fingerprint(self) -> str:
        """What a snapshot must have been made with, to be used."""
        return repr((self.keys, self.over_ms, self.step_ms, sorted(map(repr, self.aggregates.items()))))

    def build(self, state: bytes | None) -> "Window":
        """Raises `CorruptState`."""
        return Window(self, state)


class Window:
    """See `WindowConfig`. Call `take_closed` and `take_updates` after each `process`: what they would give is
    in no snapshot.
    """

    def __init__(self, config: WindowConfig, state: bytes | None) -> None:
        self._config = config
        self._reach = config.over_ms // config.step_ms
        self._store = TileStore(
            config.keys, tuple(config.aggregates.values()), self._reach, config.keys_max, config.fingerprint
        )
        self._closed: list[pl.DataFrame] = []
        self._none_closed: pl.DataFrame | None = None
        """The answer of most calls, kept once the columns' types are known."""
        self._rows_since_sweep = 0
        self._updates = Updates(self._store, config.aggregates, self._reach, config.step_ms)
        self._updated: list[pl.DataFrame] = []
        if state is not None:
            self._store.load(state)

    @np.errstate(invalid="ignore", over="ignore")
    def process(self, frame: pl.DataFrame, moment: Moment) -> pl.DataFrame:
        """The frame with the aggregates as columns, if the window is read; without events that are too old.

        Raises `InvalidInput` where a key or column is missing or of another type than before.
        """
        self._store.learn(frame)
        self._reach_to(moment.watermark_ms)
        if frame.height:
            bound_ms = self._store.marks["reached"] * self._config.step_ms
            frame, times_ms = checked_times(frame, self._store, bound_ms)
        if frame.height:
            frame = self._take_in(frame, times_ms, moment)
        elif self._config.reading:
            frame = frame.hstack(self._shown([nothing_read(self._store)], 0))
        if self._config.closing:
            self._close(moment.next_watermark_ms)
        self._reach_to(moment.next_watermark_ms)
        self._clean()
        return frame

    def take_closed(self) -> pl.DataFrame:
        """Windows that closed since the last call: the keys, `window_start`, `window_end` and the aggregates,
        in the order of their ends and keys.
        """
        closed, self._closed = self._closed, []
        if closed:
            return pl.concat(closed) if len(closed) > 1 else closed[0]
        if self._none_closed is not None:
            return self._none_closed.clone()
        nothing = np.zeros(0, np.int64)
        frame = self._closed_frame(Due(nothing, nothing, nothing, nothing), nothing)
        if self._store.known:
            self._none_closed = frame
        return frame.clone()

    def take_updates(self) -> pl.DataFrame:
        """As `updating` has them: what became of keys since the last call, no columns where nothing did."""
        updated, self._updated = self._updated, []
        return pl.concat(updated) if len(updated) > 1 else updated[0] if updated else pl.DataFrame()

    def take_changes(self) -> bytes:
        return self._store.take_changes()

    def apply_changes(self, changes: bytes) -> None:
        """Raises `CorruptState`; the window is of no use then."""
        self._store.apply_changes(changes)

    def snapshot(self) -> bytes:
        return self._store.snapshot()

    def statistics(self) -> WindowStatistics:
        store = self._store
        return WindowStatistics(
            keys=len(store.keys), tiles=store.tiles.count, size_bytes=store.size_bytes, **store.counts
        )

    # --- a frame comes in

    def _reach_to(self, watermark_ms: int) -> None:
        step = max(watermark_ms, -TIME_MAX_MS) // self._config.step_ms
        self._store.mark("reached", max(self._store.marks["reached"], step))

    def _take_in(self, frame: pl.DataFrame, times_ms: Ints, moment: Moment) -> pl.DataFrame:
        """Tiles of the frame's events, and the frame with what is read of them."""
        store, config = self._store, self._config
        slots = store.slots_of(frame)
        order = sorted_arrivals(slots)
        self._rows_since_sweep += frame.height
        times_ms = times_ms[order]
        columns = store.read(frame, order)
        arrivals = Arrivals(order, slots[order], times_ms // config.step_ms, times_ms, columns)
        reading = config.reading or config.updates == "events"
        reads = list(fold(store, arrivals, reading=reading, inclusive=config.inclusive))
        if config.updates is not None:
            self._update(arrivals, reads, moment)
        return frame.hstack(self._shown(reads, frame.height)) if config.reading else frame

    def _update(self, arrivals: Arrivals, reads: Sequence[Read], moment: Moment) -> None:
        store, config = self._store, self._config
        if config.updates == "events":
            self._updated.append(self._updates.of_events(arrivals, reads))
            return
        reached_ms = max(moment.next_watermark_ms + config.lateness_ms, int(arrivals.times_ms.max()))
        store.mark("newest_ms", max(store.marks["newest_ms"], reached_ms))
        self._updated.append(self._updates.of_keys(distinct(arrivals.slots), store.marks["newest_ms"]))

    def _shown(self, reads: Sequence[Read], count: int) -> list[pl.Series]:
        return shown_answers(
            self._store, self._config.aggregates, reads, count=count, inclusive=self._config.inclusive
        )

    # --- windows close

    def _close(self, watermark_ms: int) -> None:
        """Gives out the windows that end by the watermark and did not before."""
        reached = self._store.marks["reached"]
        until = max(watermark_ms, -TIME_MAX_MS) // self._config.step_ms
        if until <= reached or not self._store.tiles.count:
            return
        slots, steps, at = self._store.tiles.all_tiles()
        due = due_windows(slots, steps, self._reach, after=reached, until=until)
        if len(due.ends):
            self._store.add("closed", len(due.ends))
            self._closed.append(self._closed_frame(due, at))

    def _closed_frame(self, due: Due, at: Ints) -> pl.DataFrame:
        store, step_ms = self._store, self._config.step_ms
        ends_ms = due.ends * step_ms
        bounds = {WINDOW_START: ends_ms - self._config.over_ms, WINDOW_END: ends_ms}
        frame = store.keys.values(due.slots).hstack(
            [pl.Series(name, times, dtype=pl.Int64).cast(CLOSED_TIME) for name, times in bounds.items()]
        )
        read = tiles_read(store, due.slots, (due.lows, due.highs, at), (due.ends - self._reach, due.ends))
        shown = self._shown([read], len(due.ends)) if store.known else []
        return frame.hstack(shown).sort(WINDOW_END, *self._config.keys)

    def _clean(self) -> None:
        """Sweeps when at least a window's length of event time has passed, but so seldom that each tile is
        looked at a few times in all; and keeps the keys within their cap.
        """
        store = self._store
        windows = (store.marks["reached"] - store.marks["swept"]) // self._reach
        count = store.count
        worn = count >= SWEEP_TILES_MIN and (self._rows_since_sweep >= count or windows >= SWEEP_WINDOWS_MAX)
        crowded = len(store.keys) > self._config.keys_max
        if windows >= 1 and (worn or crowded):
            self._rows_since_sweep = 0
            store.mark("swept", store.marks["reached"])
            store.sweep()
        if crowded:
            store.evict()


def checked_times(frame: pl.DataFrame, store: TileStore, bound_ms: int) -> tuple[pl.DataFrame, Ints]:
    """The frame without events before the bound, which are counted as dropped, and the others' times."""
    times = frame.get_column(TIME).to_numpy()
    oldest, newest = int(times.min()), int(times.max())
    if max(-oldest, newest) > TIME_MAX_MS:
        raise InvalidInput(
            f"an event's time is {oldest if -oldest > newest else newest} ms since 1970",
            where=TIME,
            hint="times are milliseconds: convert microseconds or nanoseconds before the window",
        )
    if oldest >= bound_ms:
        return frame, times
    taken = times >= bound_ms
    store.add("dropped", frame.height - int(taken.sum()))
    return frame.filter(pl.Series(taken)), times[taken]
