"""Bytewax with a window of one's own that is tuned by hand, as in `tuned_loop`."""

from typing import Any

import bytewax.operators as op
from bytewax.operators import StatefulBatchLogic

from benchmarks.streams.peers.bytewax_flow import Reading, run_flow
from benchmarks.streams.peers.contest import OVER_TILES, TILE_MS, Contest, Departure, Outcome, compete
from benchmarks.streams.peers.tuned_loop import Window


class TunedWindow(StatefulBatchLogic[Departure, Reading, Any]):
    def __init__(self) -> None:
        self.window = Window()

    def on_batch(self, values: list[Departure]) -> tuple[list[Reading], bool]:
        window = self.window
        entries, falling, total = window.entries, window.falling, window.total
        readings = []
        for event in values:
            delay = event.dep_delay
            tile = event.departed_at // TILE_MS
            oldest = tile - OVER_TILES
            entry = tile, delay
            entries.append(entry)
            total += delay
            while entries[0][0] <= oldest:
                total -= entries.popleft()[1]
            while falling and falling[-1][1] <= delay:
                falling.pop()
            falling.append(entry)
            while falling[0][0] <= oldest:
                falling.popleft()
            count = len(entries)
            readings.append(
                (event.flight_id, delay, event.distance, event.hour, count, total / count, falling[0][1])
            )
        window.total = total
        return readings, False

    def snapshot(self) -> Any:
        return list(self.window.entries), list(self.window.falling), self.window.total


def run(contest: Contest) -> Outcome:
    return run_flow(contest, lambda keyed: op.stateful_batch("window", keyed, lambda _: TunedWindow()))


if __name__ == "__main__":
    compete(run)
