"""What the dataflows of Bytewax have in common: a source of whole batches, decoding, the model, a sink."""

from collections.abc import Callable, Iterable
from typing import Any

import bytewax.operators as op
import msgspec
from bytewax.dataflow import Dataflow
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import TestingSource, run_main

from benchmarks.streams.peers.contest import Contest, Departure, Model, Outcome, results_of_rows

__all__ = ["Reading", "run_flow"]

Reading = tuple[int, int, int, int, int, float, int]
"""`flight_id`, then the features of the model in their order."""


class Part(StatelessSinkPartition[tuple[Any, ...]]):
    def __init__(self, rows: list[tuple[Any, ...]]) -> None:
        self._rows = rows

    def write_batch(self, items: list[tuple[Any, ...]]) -> None:
        self._rows += items


class Sink(DynamicSink[tuple[Any, ...]]):
    def __init__(self, rows: list[tuple[Any, ...]]) -> None:
        self._rows = rows

    def build(self, step_id: str, worker_index: int, worker_count: int) -> Part:
        return Part(self._rows)


def run_flow(contest: Contest, window: Callable[[Any], Any]) -> Outcome:
    """`window` makes of a keyed stream of departures a keyed stream of `Reading`.

    Decoding, dropping and keying are one step over whole batches, and so is the model: the fewest steps and
    calls that the interface allows.
    """
    decode = msgspec.json.Decoder(Departure).decode
    model = Model(contest.model)
    rows: list[tuple[Any, ...]] = []

    def departures(values: list[bytes]) -> Iterable[tuple[str, Departure]]:
        return [
            (event.origin + event.carrier, event)
            for event in map(decode, values)
            if event.dep_delay is not None
        ]

    def scored(readings: list[tuple[str, Reading]]) -> Iterable[tuple[Any, ...]]:
        probabilities = model.probabilities_of_rows([reading[1:] for _, reading in readings])
        return [
            (reading[0], *reading[4:], probability)
            for (_, reading), probability in zip(readings, probabilities, strict=True)
        ]

    flow = Dataflow("late")
    values = op.input("values", flow, TestingSource(contest.events, batch_size=contest.frame))
    keyed = op.flat_map_batch("departures", values, departures)
    op.output("out", op.flat_map_batch("score", window(keyed), scored), Sink(rows))
    run_main(flow)
    return Outcome(results_of_rows(rows))
