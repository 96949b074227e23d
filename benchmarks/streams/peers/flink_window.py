"""PyFlink with its own sliding windows of event time.

A window speaks when it closes. Read as of an event is the window whose last step is the event's; so each window
goes through its events when it closes and gives what it held after each event of its last step. (An aggregate
function that notes this as it goes was no faster: its state is pickled for each event in each window.)
"""

from collections.abc import Iterable, Iterator
from typing import Any

from pyflink.common import Time
from pyflink.datastream.functions import ProcessWindowFunction
from pyflink.datastream.window import SlidingEventTimeWindows

from benchmarks.streams.peers.contest import OVER_TILES, TILE_MS, Contest, Outcome, compete
from benchmarks.streams.peers.flink_job import READING, run_job

LEAST = -(2**62)


class Readings(ProcessWindowFunction):
    def process(
        self, key: str, context: ProcessWindowFunction.Context, elements: Iterable[tuple[Any, ...]]
    ) -> Iterator[tuple[Any, ...]]:
        last_step_ms = context.window().end - TILE_MS
        count, total, worst = 0, 0, LEAST
        for _, flight_id, departed_at, delay, distance, hour in elements:
            count, total, worst = count + 1, total + delay, max(worst, delay)
            if departed_at >= last_step_ms:
                yield flight_id, delay, distance, hour, count, total / count, worst

    def clear(self, context: ProcessWindowFunction.Context) -> None:
        """Nothing is kept beside the window."""


def window(keyed: Any) -> Any:
    windows = SlidingEventTimeWindows.of(Time.milliseconds(TILE_MS * OVER_TILES), Time.milliseconds(TILE_MS))
    return keyed.window(windows).process(Readings(), READING)


def run(contest: Contest) -> Outcome:
    return run_job(contest, window, timed=True)


if __name__ == "__main__":
    compete(run)
