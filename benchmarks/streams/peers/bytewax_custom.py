"""Bytewax with a window of one's own: deques in a stateful operator, given a key's share of each batch."""

from collections import deque
from typing import Any

import bytewax.operators as op
from bytewax.operators import StatefulBatchLogic

from benchmarks.streams.peers.bytewax_flow import Reading, run_flow
from benchmarks.streams.peers.contest import OVER_TILES, TILE_MS, Contest, Departure, Outcome, compete


class Window(StatefulBatchLogic[Departure, Reading, Any]):
    def __init__(self) -> None:
        self.tiles: deque[int] = deque()
        self.delays: deque[int] = deque()

    def on_batch(self, values: list[Departure]) -> tuple[list[Reading], bool]:
        tiles, delays = self.tiles, self.delays
        readings = []
        for event in values:
            tile = event.departed_at // TILE_MS
            delay = event.dep_delay
            tiles.append(tile)
            delays.append(delay)
            while tiles[0] <= tile - OVER_TILES:
                tiles.popleft()
                delays.popleft()
            count = len(delays)
            mean, worst = sum(delays) / count, max(delays)
            readings.append((event.flight_id, delay, event.distance, event.hour, count, mean, worst))
        return readings, False

    def snapshot(self) -> Any:
        return list(self.tiles), list(self.delays)


def run(contest: Contest) -> Outcome:
    return run_flow(contest, lambda keyed: op.stateful_batch("window", keyed, lambda _: Window()))


if __name__ == "__main__":
    compete(run)
