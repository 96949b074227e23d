"""Flights scored by a job: accepted at once, answered later."""

import time

import numpy as np
import polars as pl
from examples.flights.data import Events
from examples.flights.train import NUMBERS, TEXTS

import penstock as ps

TIMEOUT_S = 60.0


def score_later(url: str, events: Events, count: int) -> str:
    """Enqueues the last departures as one job, and waits for it. What came of it, in words."""
    rows = events.departures.tail(count)
    inputs: dict[str, object] = {name: np.array(rows[name].to_list(), object) for name in TEXTS}
    inputs |= {name: rows[name].cast(pl.Float32).to_numpy() for name in NUMBERS}
    with ps.Client(url) as client:
        started = time.perf_counter()
        job = client.submit("late", inputs, key="april")
        accepted_s = time.perf_counter() - started
        status = job.wait(TIMEOUT_S)
        late = job.result().outputs["probabilities"][:, 1]
    took_s = time.perf_counter() - started
    return (
        f"job {job.id} was accepted in {1000 * accepted_s:.1f} ms, and is {status.status} after {took_s:.2f} s:"
        f" {float(late.mean()):.1%} of {count:,} flights late, by what is known now"
    )
