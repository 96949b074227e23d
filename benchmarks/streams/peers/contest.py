"""What every system has in common: the events, the model, how it is timed, and the checksum of its results.

A system is a module run as `python -m benchmarks.streams.peers.NAME --events FILE --model FILE --count N`, and
writes one line of JSON to standard output. Nothing here needs more than msgspec, numpy and ONNX Runtime, so
that it can be imported in every peer's environment.
"""

import argparse
import gc
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import onnxruntime as ort

__all__ = [
    "OVER_TILES",
    "TILE_MS",
    "Contest",
    "Departure",
    "Model",
    "Outcome",
    "Results",
    "checksum",
    "compete",
    "results_of_rows",
]

TILE_MS = 300_000
OVER_TILES = 12
WARM_EVENTS = 20_000
WEIGHTS = 97


class Departure(msgspec.Struct, gc=False):
    """What the pipeline reads of an event; the other fields are passed over."""

    flight_id: int
    departed_at: int
    dep_delay: int | None
    carrier: str
    origin: str
    dest: str
    distance: int
    hour: int


@dataclass(frozen=True)
class Results:
    """What came out, in columns and any order: of each flight with a delay the number of departures of its
    origin and carrier in the hour as of then, their mean and worst delay, and the model's probability.
    """

    flight_id: Any
    departures: Any
    mean_delay: Any
    worst_delay: Any
    probability: Any


@dataclass(frozen=True)
class Outcome:
    """`seconds` and `events` where a system has to time itself, as from within a running job."""

    results: Results
    seconds: float | None = None
    events: int | None = None


@dataclass(frozen=True)
class Contest:
    """The events of one run in memory, and what a system was told besides."""

    events: list[bytes]
    model: str
    frame: int


class Model:
    """The gradient boosting, on one thread. Its features are `dep_delay`, `distance`, `hour`, and the window's
    `departures`, `mean_delay` and `worst_delay`.
    """

    def __init__(self, path: str) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def probabilities(self, features: Any) -> Any:
        """Of rows of six float32."""
        return self._session.run(["probabilities"], {"x": features})[0][:, 1]

    def probabilities_of_rows(self, rows: Sequence[Sequence[float]]) -> list[float]:
        """Of Python's numbers, for systems that have rows."""
        answer: list[float] = self.probabilities(np.array(rows, dtype=np.float32)).tolist()
        return answer


def results_of_rows(rows: Sequence[tuple[int, int, float, int, float]]) -> Results:
    """From rows in the order of the fields of `Results`."""
    return Results(*zip(*rows, strict=True)) if rows else Results([], [], [], [], [])


def checksum(results: Results) -> dict[str, object]:
    """Equal for equal results in whatever order: counts and worst delays exactly, the mean and the probability
    as weighted sums, which `agrees` of `benchmarks.streams.judge` compares.
    """
    flight_id = np.asarray(results.flight_id, dtype=np.int64)
    order = np.argsort(flight_id, kind="stable")
    flight_id = flight_id[order]
    exact = hashlib.blake2b(digest_size=12)
    for column in (results.departures, results.worst_delay):
        exact.update(np.asarray(column, dtype=np.int64)[order].tobytes())
    exact.update(flight_id.tobytes())
    weights = 1 + flight_id % WEIGHTS
    sums = [
        float((np.asarray(column, dtype=np.float64)[order] * weights).sum())
        for column in (results.mean_delay, results.probability)
    ]
    return {"rows": len(flight_id), "exact": exact.hexdigest(), "mean": sums[0], "probability": sums[1]}


def compete(system: Callable[[Contest], Outcome]) -> None:
    """Runs a system once on a few events to warm it, and once on all, and says what came of that."""
    options = _arguments()
    with open(options.events, "rb") as file:
        events = file.read().split(b"\n", options.count)[: options.count]
    if options.warm:
        system(Contest(events[: options.warm], options.model, options.frame))
    gc.collect()
    # What is there already, the events above all, is not for the collector to look at again and again.
    gc.freeze()
    begun_s, begun_cpu_s = time.perf_counter(), time.process_time()
    outcome = system(Contest(events, options.model, options.frame))
    took_s, cpu_s = time.perf_counter() - begun_s, time.process_time() - begun_cpu_s
    print(
        json.dumps(
            {
                "seconds": outcome.seconds or took_s,
                "cpu_seconds": cpu_s,
                "events": outcome.events or len(events),
                "checksum": checksum(outcome.results),
            }
        )
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--frame", type=int, default=10_000)
    parser.add_argument("--warm", type=int, default=WARM_EVENTS)
    return parser.parse_args()
