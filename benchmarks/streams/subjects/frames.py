"""Penstock's engine on the pipeline of `app`: one partition of a stage, given frames of records, no log."""

import os
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from benchmarks.streams.peers.contest import Contest, Outcome, Results, compete
from penstock.log.records import Fetched, Records, TopicPartition
from penstock.streams.intake import Instant
from penstock.streams.operator import Moment
from penstock.streams.outputs import Put
from penstock.streams.stage import Stage
from penstock.streams.topology import topology

SOURCE = TopicPartition("departures", 0)
COLUMNS = ("flight_id", "departures", "mean_delay", "worst_delay", "probability")
NOW_MS = 1_700_000_000_000


@dataclass(frozen=True)
class Collected:
    """An output that keeps the frames in memory."""

    frames: list[pl.DataFrame]

    def build(self, source: TopicPartition, state: bytes | None) -> "Collected":  # noqa: ARG002 - as outputs are
        return self

    def put(self, frame: pl.DataFrame, moment: Moment, idle: bool) -> Put:  # noqa: ARG002 - as outlets are
        if frame.height:
            self.frames.append(frame)
        return Put()

    def take_changes(self) -> bytes:
        return b""


def stage_of(out: Collected) -> Stage:
    """The app's one stage, with its output into a topic put into memory instead."""
    from benchmarks.streams.subjects.app import app

    (plan,) = topology(app.streams.graph, {}).stages
    (output,) = plan.outputs
    return Stage(replace(plan, outputs=(replace(output, config=out),)), SOURCE)


def run(contest: Contest) -> Outcome:
    """Changes of state are taken after each frame, as a worker does, and thrown away."""
    os.environ["BENCH_MODEL_ONNX"] = contest.model
    out = Collected([])
    stage = stage_of(out)
    for begin in range(0, len(contest.events), contest.frame):
        values = contest.events[begin : begin + contest.frame]
        end = begin + len(values)
        fetched = Fetched(
            source=SOURCE,
            offsets=np.arange(begin, end, dtype=np.int64),
            records=Records(values=values, times_ms=np.full(len(values), NOW_MS, dtype=np.int64)),
            next_offset=end,
        )
        stage.process(fetched, Instant(now_ms=NOW_MS, monotonic_ms=0.0))
        stage.take_changes()
    results = pl.concat(out.frames)
    return Outcome(Results(*(results.get_column(name) for name in COLUMNS)))


if __name__ == "__main__":
    compete(run)
