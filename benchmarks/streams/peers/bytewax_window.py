"""Bytewax with its own sliding windows.

A window speaks when it closes. Read as of an event is the window whose last step is the event's; so each window
notes what it held after each event of its last step, and these notes are its result: the same readings as
everywhere, only later.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import bytewax.operators as op
import bytewax.operators.windowing as win

from benchmarks.streams.peers.bytewax_flow import Reading, run_flow
from benchmarks.streams.peers.contest import OVER_TILES, TILE_MS, Contest, Departure, Outcome, compete

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
STEP = timedelta(milliseconds=TILE_MS)


class Held:
    """What a window holds. `notes` are those of the newest step that it has seen."""

    __slots__ = ("count", "notes", "tile", "total", "worst")

    def __init__(self) -> None:
        self.count = self.total = 0
        self.worst = self.tile = -(2**62)
        self.notes: list[tuple[Departure, int, int, int]] = []


def fold(held: Held, event: Departure) -> Held:
    delay = event.dep_delay
    held.count += 1
    held.total += delay
    held.worst = max(held.worst, delay)
    tile = event.departed_at // TILE_MS
    if tile != held.tile:
        held.tile, held.notes = tile, []
    held.notes.append((event, held.count, held.total, held.worst))
    return held


def readings(closed: tuple[int, Held]) -> list[Reading]:
    """Windows are numbered by their first step, counted from the epoch."""
    number, held = closed
    if held.tile != number + OVER_TILES - 1:
        return []
    return [
        (event.flight_id, event.dep_delay, event.distance, event.hour, count, total / count, worst)
        for event, count, total, worst in held.notes
    ]


def merged(one: Held, other: Held) -> Held:
    raise AssertionError("sliding windows do not merge")


def window(keyed: Any) -> Any:
    now = datetime.now(UTC)
    clock = win.EventClock(
        ts_getter=lambda event: datetime.fromtimestamp(event.departed_at / 1000, UTC),
        wait_for_system_duration=timedelta(0),
        # Event time alone moves the watermark: the events are in order, and none of them is of today.
        now_getter=lambda: now,
        to_system_utc=lambda _: None,
    )
    windower = win.SlidingWindower(length=STEP * OVER_TILES, offset=STEP, align_to=EPOCH)
    out = win.fold_window("window", keyed, clock, windower, Held, fold, merged, ordered=False)
    return op.flat_map_value("readings", out.down, readings)


def run(contest: Contest) -> Outcome:
    return run_flow(contest, window)


if __name__ == "__main__":
    compete(run)
