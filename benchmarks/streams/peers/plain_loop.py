"""A Python loop: a struct an event, deques of each origin and carrier, flat batches to the model."""

from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import numpy as np

from benchmarks.streams.peers.contest import (
    OVER_TILES,
    TILE_MS,
    Contest,
    Departure,
    Model,
    Outcome,
    Results,
    compete,
)

__all__ = ["loop"]

FEATURES = 6

Read = Callable[[Iterable[Departure]], tuple[list[int], list[float]]]


class Window:
    """Of one origin and carrier: the tiles and the delays of the flights in it."""

    __slots__ = ("delays", "tiles")

    def __init__(self) -> None:
        self.tiles: deque[int] = deque()
        self.delays: deque[int] = deque()


def reader() -> Read:
    windows: dict[tuple[str, str], Window] = defaultdict(Window)

    def read(events: Iterable[Departure]) -> tuple[list[int], list[float]]:
        """The flights with a delay, and their features one after the other."""
        flights: list[int] = []
        numbers: list[float] = []
        for event in events:
            delay = event.dep_delay
            if delay is None:
                continue
            window = windows[event.origin, event.carrier]
            tiles, delays = window.tiles, window.delays
            tile = event.departed_at // TILE_MS
            tiles.append(tile)
            delays.append(delay)
            while tiles[0] <= tile - OVER_TILES:
                tiles.popleft()
                delays.popleft()
            count = len(delays)
            flights.append(event.flight_id)
            numbers += (delay, event.distance, event.hour, count, sum(delays) / count, max(delays))
        return flights, numbers

    return read


def loop(contest: Contest, read: Read) -> Outcome:
    """Decodes, reads and scores a frame at a time."""
    decode = msgspec.json.Decoder(Departure).decode
    model = Model(contest.model)
    frames: list[tuple[Any, ...]] = []
    for begin in range(0, len(contest.events), contest.frame):
        flights, numbers = read(map(decode, contest.events[begin : begin + contest.frame]))
        rows = np.array(numbers).reshape(-1, FEATURES)
        probabilities = model.probabilities(rows.astype(np.float32))
        frames.append((flights, rows[:, 3], rows[:, 4], rows[:, 5], probabilities))
    return Outcome(Results(*map(np.concatenate, zip(*frames, strict=True))))


def run(contest: Contest) -> Outcome:
    return loop(contest, reader())


if __name__ == "__main__":
    compete(run)
