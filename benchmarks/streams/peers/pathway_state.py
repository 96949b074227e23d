"""Pathway with a window of one's own: a stateful reducer that keeps a key's delays of the last hour."""

from typing import Any

import pathway as pw

from benchmarks.streams.peers.contest import OVER_TILES, TILE_MS, Contest, Outcome, compete
from benchmarks.streams.peers.pathway_flow import run_flow


@pw.reducers.stateful_many
def held(state: Any, rows: Any) -> Any:
    """The tiles and delays of the window, and the readings as of each of the rows that have come by now."""
    tiles, delays = (list(part) for part in state[:2]) if state is not None else ([], [])
    readings = []
    for (flight_id, departed_at, delay, distance, hour), _ in sorted(rows):
        tile = departed_at // TILE_MS
        tiles.append(tile)
        delays.append(delay)
        old = 0
        while tiles[old] <= tile - OVER_TILES:
            old += 1
        if old:
            del tiles[:old], delays[:old]
        count = len(delays)
        readings.append((flight_id, delay, distance, hour, count, sum(delays) / count, max(delays)))
    return tuple(tiles), tuple(delays), tuple(readings)


def window(events: Any) -> Any:
    columns = events.flight_id, events.departed_at, events.dep_delay, events.distance, events.hour
    kept = events.groupby(events.key).reduce(state=held(*columns))
    return kept.select(readings=pw.this.state[2])


def run(contest: Contest) -> Outcome:
    return run_flow(contest, window)


if __name__ == "__main__":
    compete(run)
