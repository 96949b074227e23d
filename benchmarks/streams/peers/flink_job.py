"""What the jobs of PyFlink have in common: thread mode, a source of lines, decoding, the model, a sink.

In thread mode the functions run in an interpreter within the JVM, not in the process that submits the job: what
is measured and what comes out is written to a file there and read here.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from pyflink.common import Configuration, Types, WatermarkStrategy
from pyflink.common.watermark_strategy import TimestampAssigner
from pyflink.datastream import StreamExecutionEnvironment
from pyflink.datastream.connectors.file_system import FileSource, StreamFormat
from pyflink.datastream.functions import FlatMapFunction, RuntimeContext

from benchmarks.streams.peers.contest import Contest, Departure, Model, Outcome, Results

__all__ = ["EVENT", "READING", "run_job"]

EVENT = Types.TUPLE([Types.STRING(), Types.LONG(), Types.LONG(), Types.LONG(), Types.LONG(), Types.LONG()])
"""The key, `flight_id`, `departed_at`, `dep_delay`, `distance`, `hour`."""
READING = Types.TUPLE(
    [Types.LONG(), Types.LONG(), Types.LONG(), Types.LONG(), Types.LONG(), Types.DOUBLE(), Types.LONG()]
)
"""`flight_id`, then the features of the model in their order."""

WARM_SHARE = 0.25
"""Of the events before the clock starts: the JVM has compiled by then what it will."""

begun: list[float] = []
"""When the clock started. Of the interpreter that runs the job, one for all its functions."""


class Decode(FlatMapFunction):
    def __init__(self, warm: int) -> None:
        self._warm = warm

    def open(self, runtime_context: RuntimeContext) -> None:
        self._decode = msgspec.json.Decoder(Departure).decode
        self._seen = 0

    def flat_map(self, value: str) -> Iterator[tuple[Any, ...]]:
        if self._seen == self._warm:
            begun.append(time.perf_counter())
        self._seen += 1
        event = self._decode(value)
        if event.dep_delay is not None:
            yield (
                event.origin + event.carrier,
                event.flight_id,
                event.departed_at,
                event.dep_delay,
                event.distance,
                event.hour,
            )


class Score(FlatMapFunction):
    """Scores in batches and keeps the results; the last batch when the job ends."""

    def __init__(self, model: str, frame: int, out: str) -> None:
        self._path, self._frame, self._out = model, frame, out

    def open(self, runtime_context: RuntimeContext) -> None:
        self._model = Model(self._path)
        self._waiting: list[tuple[Any, ...]] = []
        self._batches: list[Any] = []

    def flat_map(self, value: tuple[Any, ...]) -> Iterator[Any]:
        self._waiting.append(value)
        if len(self._waiting) == self._frame:
            self._score()
        return iter(())

    def close(self) -> None:
        if self._waiting:
            self._score()
        took_s = time.perf_counter() - begun[0]
        np.savez(self._out, results=np.concatenate(self._batches), took_s=took_s)

    def _score(self) -> None:
        rows = np.array(self._waiting, dtype=np.float64)
        probabilities = self._model.probabilities(rows[:, 1:].astype(np.float32))
        self._batches.append(np.column_stack([rows[:, [0, 4, 5, 6]], probabilities]))
        self._waiting.clear()


class EventTime(TimestampAssigner):
    def extract_timestamp(self, value: tuple[Any, ...], record_timestamp: int) -> int:
        departed_at: int = value[2]
        return departed_at


def environment(folder: Path) -> StreamExecutionEnvironment:
    # The JVM asks the first `python` it finds where its library is.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    options = Configuration()
    for name, value in {
        "python.execution-mode": "thread",
        "parallelism.default": "1",
        "pipeline.object-reuse": "true",
        "python.executable": sys.executable,
        "python.client.executable": sys.executable,
        "env.log.dir": str(folder),
        "io.tmp.dirs": str(folder),
    }.items():
        options.set_string(name, value)
    return StreamExecutionEnvironment.get_execution_environment(options)


def run_job(contest: Contest, window: Callable[[Any], Any], *, timed: bool) -> Outcome:
    """`window` makes of a stream of `EVENT` keyed by its first field a stream of `READING`.

    Where it is `timed`, events have their times and watermarks.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines, out = folder / "events", folder / "out.npz"
        lines.write_bytes(b"\n".join(contest.events) + b"\n")
        env = environment(folder)
        warm = round(len(contest.events) * WARM_SHARE)
        source = FileSource.for_record_stream_format(StreamFormat.text_line_format(), str(lines)).build()
        events = env.from_source(source, WatermarkStrategy.no_watermarks(), "values").flat_map(
            Decode(warm), output_type=EVENT
        )
        if timed:
            strategy = WatermarkStrategy.for_monotonous_timestamps().with_timestamp_assigner(EventTime())
            events = events.assign_timestamps_and_watermarks(strategy)
        keyed = events.key_by(lambda event: event[0], key_type=Types.STRING())
        scored = window(keyed).flat_map(Score(contest.model, contest.frame, str(out)), output_type=Types.LONG())
        scored.print()
        env.execute("late")
        with np.load(out) as seen:
            return Outcome(
                Results(*seen["results"].T),
                seconds=float(seen["took_s"]),
                events=len(contest.events) - warm,
            )
