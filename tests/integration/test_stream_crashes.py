"""Workers that are killed, stopped, fenced and moved: the output is what the ledger says, to the row."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from command_line import PATIENCE_S
from stream_crashes import Crashing, kill, ledger, make_events

EVENTS = 3000
CRASHES = int(os.environ.get("CRASHES", "4"))
"""Kills at random; `make crash CRASHES=200` for the long form."""
FAILPOINTS = ("poll", "compute", "state", "output", "commit", "committed", "snapshot", "revoke")


@pytest.fixture
def crashing(tmp_path: Path) -> Iterator[Crashing]:
    found = Crashing(tmp_path)
    yield found
    found.close()


def test_kills_at_random(crashing: Crashing) -> None:
    rng = np.random.default_rng(CRASHES)
    events = make_events(max(EVENTS, CRASHES * 300), seed=1)
    crashing.make_topics()
    worker = crashing.start()
    parts = np.array_split(np.arange(len(events)), CRASHES)
    for part in parts:
        crashing.produce([events[place] for place in part.tolist()])
        time.sleep(float(rng.uniform(0.3, 1.5)))
        kill(worker)
        worker = crashing.start()
    crashing.wait_until_done()
    kill(worker)
    crashing.check(ledger(events))


@pytest.mark.parametrize("place", FAILPOINTS)
def test_a_kill_at_every_failpoint(crashing: Crashing, place: str) -> None:
    events = make_events(EVENTS, seed=2)
    crashing.make_topics()
    crashing.produce(events)
    worker = crashing.start(failpoint=f"{place}:{2 if place in ('revoke', 'snapshot') else 7}:kill")
    if place == "revoke":
        other = crashing.start(2)
    status = worker.wait(PATIENCE_S) if place != "revoke" else None
    if place == "revoke":
        time.sleep(2)
        kill(other)
        kill(worker)
    else:
        assert status == -signal.SIGKILL
    again = crashing.start()
    crashing.wait_until_done()
    kill(again)
    crashing.check(ledger(events))
