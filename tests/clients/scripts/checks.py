"""What the scripts share that run in the clients' environments: the facts they are given, and their checks.

A script is run as `python script.py FACTS`. It has functions `check_…(facts)`, which may be coroutines; each is
called, and how it ended goes to stdout, a JSON line for each.
"""

import asyncio
import inspect
import json
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

import numpy as np

TOLERANCE = 1e-5


@dataclass(frozen=True)
class Case:
    """Inputs of a model, and the outputs that somebody else than the server worked out."""

    model: str
    version: str
    inputs: dict
    outputs: dict

    def agrees(self, name, given):
        """Raises `AssertionError` unless `given` is the output of this name. Text may be str or bytes."""
        expected = self.outputs[name]
        assert given is not None, f"no output {name!r}"
        assert list(given.shape) == list(expected.shape), (name, given.shape, expected.shape)
        if expected.dtype.kind == "f":
            assert given.dtype == expected.dtype, (name, given.dtype)
            assert np.allclose(given.astype(float), expected.astype(float), rtol=0, atol=TOLERANCE), (
                name,
                given,
                expected,
            )
        else:
            assert _plain(given) == _plain(expected), (name, given, expected)


class Facts:
    """Where the server is, and what it has to answer."""

    def __init__(self, path):
        told = json.loads(Path(path).read_text())
        self.host = told["host"]
        self.port = told["port"]
        self.grpc_port = told["grpc_port"]
        self.url = f"http://{self.host}:{self.port}"
        self._cases = told["cases"]

    def case(self, name):
        case = self._cases[name]
        repeat = case["columns_repeat"]
        return Case(
            model=case["model"],
            version=case["version"],
            inputs={each: _array(told, repeat) for each, told in case["inputs"].items()},
            outputs={each: _array(told, repeat) for each, told in case["outputs"].items()},
        )


def raised(kind, call, *arguments, **named):
    """The exception of a call that has to raise it."""
    try:
        result = call(*arguments, **named)
    except kind as error:
        return error
    raise AssertionError(f"it did not fail, it gave {result!r}")


async def raised_later(kind, awaitable):
    try:
        result = await awaitable
    except kind as error:
        return error
    raise AssertionError(f"it did not fail, it gave {result!r}")


def main(module):
    """Runs the checks of a script."""
    facts = Facts(sys.argv[1])
    for name, function in vars(sys.modules[module]).copy().items():
        if name.startswith("check_"):
            begun_s = time.monotonic()
            failure = _failure(function, facts)
            seconds = round(time.monotonic() - begun_s, 2)
            sys.stdout.write(json.dumps({"check": name, "failure": failure, "seconds": seconds}) + "\n")
            sys.stdout.flush()


def _failure(function, facts):
    try:
        if inspect.iscoroutinefunction(function):
            asyncio.run(function(facts))
        else:
            function(facts)
    except Exception:
        return traceback.format_exc()
    return None


def _array(told, columns_repeat):
    datatype, shape, data = told["datatype"], told["shape"], told["data"]
    if datatype in ("text", "bytes"):
        array = np.empty(len(data), dtype=object)
        array[:] = data if datatype == "text" else [bytes.fromhex(element) for element in data]
        return array.reshape(shape)
    array = np.array(data, dtype=datatype).reshape(shape)
    return array if columns_repeat == 1 else np.tile(array, columns_repeat)


def _plain(array):
    return [element.encode() if isinstance(element, str) else element for element in array.ravel().tolist()]
