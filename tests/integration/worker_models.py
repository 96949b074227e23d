"""Models that worker processes load in test_process_runtime.py."""

import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable

import numpy as np

from penstock.core.calling import inherited_criticality, inherited_deadline_s
from penstock.core.errors import InvalidInput, ModelFailed
from penstock.core.signature import Signature
from penstock.core.tensors import Tensors

NUMBERS = Signature.of(inputs={"x": "INT64[-1]"}, outputs={"y": "INT64[-1]"})


class Model:
    def __init__(self, run: Callable[[Tensors], Tensors], signature: Signature = NUMBERS) -> None:
        self.run = run
        self.signature = signature


def load_double() -> Model:
    return Model(lambda tensors: {"y": 2 * tensors["x"]})


def load_behalf() -> Model:
    """Answers with how important what it is asked is, and in how many ms nobody wants it any more."""

    def run(tensors: Tensors) -> Tensors:
        until_s, level = inherited_deadline_s(), inherited_criticality()
        left_ms = -1 if until_s is None else round(1000 * (until_s - time.monotonic()))
        return {"y": np.full_like(tensors["x"], 100_000 * (level or 0) + left_ms)}

    return Model(run)


def load_echo() -> Model:
    return Model(lambda tensors: tensors)


def load_moody() -> Model:
    """What it does depends on the first value."""

    def run(tensors: Tensors) -> Tensors:
        sys.stdout.write("what a model prints is not data\n")
        moods: dict[int, Callable[[], object]] = {
            1: lambda: os.kill(os.getpid(), signal.SIGKILL),
            2: lambda: sys.exit(7),
            3: lambda: threading.Event().wait(),
        }
        first = int(tensors["x"][0])
        if first == 10:
            raise InvalidInput("ten is too many", where="x", hint="send nine")
        if first == 11:
            raise ValueError("eleven")
        if first == 12:
            raise ModelFailed("twelve", hint="a hint")
        if first == 13:
            return {"y": np.array([object()])}
        moods.get(first, lambda: None)()
        return {"y": 2 * tensors["x"]}

    return Model(run)


def load_without_room() -> Model:
    """Answers 2 with more than there is memory for."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

    def run(tensors: Tensors) -> Tensors:
        return {"y": np.zeros(1 << 20) if tensors["x"][0] == 2 else 2 * tensors["x"]}

    return Model(run)


def load_holding(*, fifo: str) -> Model:
    """Says on a named pipe that it is in a run, then stays there."""

    def run(tensors: Tensors) -> Tensors:
        with open(fifo, "w") as stream:
            stream.write("in a run")
        threading.Event().wait()
        return tensors

    return Model(run)


def load_once(*, marker: str) -> Model:
    """Loads once, and dies in each load after it and in each run."""
    if os.path.exists(marker):
        os._exit(5)
    with open(marker, "w"):
        pass
    return Model(lambda tensors: os._exit(6))


def load_invalid() -> Model:
    raise InvalidInput("no such model", where="file", hint="look again")


def load_raising() -> Model:
    raise ValueError("cannot be loaded")


def load_exiting() -> Model:
    os._exit(3)


def load_leaving() -> Model:
    sys.exit(0)


def load_hanging() -> Model:
    threading.Event().wait()
    raise AssertionError


def load_big_argument(*, text: str) -> Model:
    return Model(lambda tensors: {"y": np.full(len(tensors["x"]), len(text))})
