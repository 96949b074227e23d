"""What the two of Pathway have in common: rows that arrive a frame at a time, and a sink that scores."""

import os
import time
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pathway as pw

from benchmarks.streams.peers.contest import Contest, Departure, Model, Outcome, Results

__all__ = ["run_flow"]

os.environ.setdefault("PATHWAY_THREADS", "1")

Reading = tuple[int, int, int, int, int, float, int]
"""`flight_id`, then the features of the model in their order."""


class Event(pw.Schema):
    flight_id: int
    departed_at: int
    dep_delay: int
    distance: int
    hour: int
    key: str


class Events(pw.io.python.ConnectorSubject):
    """Decodes and drops, and commits after each frame."""

    def __init__(self, contest: Contest) -> None:
        super().__init__()
        self._contest = contest
        self.begun_s = 0.0

    def run(self) -> None:
        decode = msgspec.json.Decoder(Departure).decode
        frame = self._contest.frame
        self.begun_s = time.perf_counter()
        for begin in range(0, len(self._contest.events), frame):
            for event in map(decode, self._contest.events[begin : begin + frame]):
                if event.dep_delay is not None:
                    self.next(
                        flight_id=event.flight_id,
                        departed_at=event.departed_at,
                        dep_delay=event.dep_delay,
                        distance=event.distance,
                        hour=event.hour,
                        key=event.origin + event.carrier,
                    )
            self.commit()


class Sink:
    """Scores what has come by the end of each time, in one batch."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._waiting: list[Reading] = []
        self._batches: list[Any] = []

    def add(self, key: Any, row: dict[str, Any], time: int, is_addition: bool) -> None:
        if is_addition:
            self._waiting += row["readings"]

    def end_of_time(self, time: int) -> None:
        if self._waiting:
            rows = np.array(self._waiting, dtype=np.float64)
            probabilities = self._model.probabilities(rows[:, 1:].astype(np.float32))
            self._batches.append(np.column_stack([rows[:, [0, 4, 5, 6]], probabilities]))
            self._waiting.clear()

    def results(self) -> Results:
        self.end_of_time(0)
        return Results(*np.concatenate(self._batches).T)


def run_flow(contest: Contest, window: Callable[[Any], Any]) -> Outcome:
    """`window` makes of a table of `Event` one with a column `readings`, tuples of `Reading`."""
    pw.internals.parse_graph.G.clear()
    sink, subject = Sink(Model(contest.model)), Events(contest)
    events = pw.io.python.read(subject, schema=Event, autocommit_duration_ms=None)
    pw.io.subscribe(window(events), on_change=sink.add, on_time_end=sink.end_of_time)
    pw.run(monitoring_level=pw.MonitoringLevel.NONE)
    return Outcome(sink.results(), seconds=time.perf_counter() - subject.begun_s)
