"""Pathway with its own sliding windows, each of which gives its result once.

As in `flink_window`, a window goes through its events when it closes and gives what it held after each event of
its last step.
"""

from typing import Any

import pathway as pw

from benchmarks.streams.peers.contest import OVER_TILES, TILE_MS, Contest, Outcome, compete
from benchmarks.streams.peers.pathway_flow import run_flow

LEAST = -(2**62)


@pw.udf
def readings(entries: tuple, end_ms: int) -> list[tuple[int, int, int, int, int, float, int]]:  # type: ignore[type-arg]
    """A window's entries come in no order that is promised; flights are numbered as they arrived."""
    last_step_ms = end_ms - TILE_MS
    count, total, worst = 0, 0, LEAST
    found = []
    for flight_id, departed_at, delay, distance, hour in sorted(entries):
        count, total, worst = count + 1, total + delay, max(worst, delay)
        if departed_at >= last_step_ms:
            found.append((flight_id, delay, distance, hour, count, total / count, worst))
    return found


def window(events: Any) -> Any:
    sliding = pw.temporal.sliding(hop=TILE_MS, duration=TILE_MS * OVER_TILES, origin=0)
    closed = events.windowby(
        events.departed_at,
        window=sliding,
        instance=events.key,
        behavior=pw.temporal.exactly_once_behavior(),
    ).reduce(
        end_ms=pw.this._pw_window_end,
        entries=pw.reducers.tuple(
            pw.make_tuple(
                pw.this.flight_id, pw.this.departed_at, pw.this.dep_delay, pw.this.distance, pw.this.hour
            )
        ),
    )
    return closed.select(readings=readings(pw.this.entries, pw.this.end_ms))


def run(contest: Contest) -> Outcome:
    return run_flow(contest, window)


if __name__ == "__main__":
    compete(run)
