"""PyFlink with a window of one's own in keyed state: the delays of the last hour in a `ValueState`."""

from collections.abc import Iterator
from typing import Any

from pyflink.common import Types
from pyflink.datastream.functions import KeyedProcessFunction, RuntimeContext
from pyflink.datastream.state import ValueStateDescriptor

from benchmarks.streams.peers.contest import OVER_TILES, TILE_MS, Contest, Outcome, compete
from benchmarks.streams.peers.flink_job import READING, run_job


class Window(KeyedProcessFunction):
    def open(self, runtime_context: RuntimeContext) -> None:
        kind = Types.PICKLED_BYTE_ARRAY()
        self._state = runtime_context.get_state(ValueStateDescriptor("entries", kind))

    def process_element(
        self, value: tuple[Any, ...], ctx: KeyedProcessFunction.Context
    ) -> Iterator[tuple[Any, ...]]:
        _, flight_id, departed_at, delay, distance, hour = value
        tile = departed_at // TILE_MS
        tiles, delays = self._state.value() or ([], [])
        tiles.append(tile)
        delays.append(delay)
        old = 0
        while tiles[old] <= tile - OVER_TILES:
            old += 1
        if old:
            del tiles[:old], delays[:old]
        self._state.update((tiles, delays))
        count = len(delays)
        yield flight_id, delay, distance, hour, count, sum(delays) / count, max(delays)


def run(contest: Contest) -> Outcome:
    return run_job(contest, lambda keyed: keyed.process(Window(), output_type=READING), timed=False)


if __name__ == "__main__":
    compete(run)
