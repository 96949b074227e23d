"""The loop with windows tuned by hand: running sums, and for the worst delay a deque that only falls."""

from collections import deque
from collections.abc import Iterable

from benchmarks.streams.peers.contest import OVER_TILES, TILE_MS, Contest, Departure, Outcome, compete
from benchmarks.streams.peers.plain_loop import Read, loop

__all__ = ["Window"]


class Window:
    """Of one origin and carrier. `falling` holds those that may yet be the worst, `entries` all."""

    __slots__ = ("entries", "falling", "total")

    def __init__(self) -> None:
        self.entries: deque[tuple[int, int]] = deque()
        self.falling: deque[tuple[int, int]] = deque()
        self.total = 0


def reader() -> Read:
    windows: dict[tuple[str, str], Window] = {}

    def read(events: Iterable[Departure]) -> tuple[list[int], list[float]]:
        """The flights with a delay, and their features one after the other."""
        flights: list[int] = []
        numbers: list[float] = []
        for event in events:
            delay = event.dep_delay
            if delay is None:
                continue
            key = event.origin, event.carrier
            window = windows.get(key)
            if window is None:
                window = windows[key] = Window()
            entries, falling = window.entries, window.falling
            tile = event.departed_at // TILE_MS
            oldest = tile - OVER_TILES
            entry = tile, delay
            entries.append(entry)
            total = window.total + delay
            while entries[0][0] <= oldest:
                total -= entries.popleft()[1]
            window.total = total
            while falling and falling[-1][1] <= delay:
                falling.pop()
            falling.append(entry)
            while falling[0][0] <= oldest:
                falling.popleft()
            count = len(entries)
            flights.append(event.flight_id)
            numbers += (delay, event.distance, event.hour, count, total / count, falling[0][1])
        return flights, numbers

    return read


def run(contest: Contest) -> Outcome:
    return loop(contest, reader())


if __name__ == "__main__":
    compete(run)
