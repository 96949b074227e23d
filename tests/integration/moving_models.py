"""Models whose answers tell their version apart, and callers that never stop asking."""

import threading
from collections import Counter
from pathlib import Path
from typing import Any, Self

import httpx
import numpy as np
import onnx
from command_line import CommandLine
from onnx import TensorProto, helper, numpy_helper
from running_server import RunningServer

COLUMNS = 4


def adding(folder: Path, number: float, weight_bytes: int = 0) -> Path:
    """An ONNX file that gives the sum of a row plus `number`."""
    constants = [numpy_helper.from_array(np.array([number], np.float32), "number")]
    if weight_bytes:
        constants.append(numpy_helper.from_array(np.ones(weight_bytes // 4, np.float32), "ballast"))
    nodes = [
        helper.make_node("ReduceSum", ["x", "axes"], ["sum"], keepdims=0),
        helper.make_node("Add", ["sum", "number"], ["y"]),
    ]
    constants.append(numpy_helper.from_array(np.array([1], np.int64), "axes"))
    graph = helper.make_graph(
        nodes,
        "adding",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, COLUMNS])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    file = folder / f"adding-{number:g}.onnx"
    onnx.save(model, file)
    return file


def push_adding(commands: CommandLine, versions: int, **options: Any) -> None:
    """Pushes versions 1 to `versions` of the model `adding`; version n adds 100·n, and 1 is the champion."""
    samples = commands.folder / "x.npy"
    np.save(samples, np.random.default_rng(1).normal(size=(64, COLUMNS)).astype(np.float32))
    for number in range(1, versions + 1):
        file = adding(commands.folder, 100.0 * number, **options)
        alias = ("--alias", "champion") if number == 1 else ()
        commands.succeeds_inside("model", "push", "adding", file, "--samples", samples, *alias)


class Callers:
    """Threads that ask `adding` without a pause, each over a connection of its own, until the block ends.

    `failures` are answers that did not come or were no 200; `mixed` those whose outputs are not of the version
    that they name; `versions` counts the others.
    """

    def __init__(self, server: RunningServer, threads: int = 2, fresh: bool = False) -> None:
        self._url = f"{server.url}/v2/models/adding/infer"
        self._fresh = fresh
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(threads)]
        self.failures: list[str] = []
        self.mixed: list[str] = []
        self.versions: Counter[str] = Counter()

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        headers = {"connection": "close"} if self._fresh else {}
        body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, COLUMNS], "data": [1, 2, 3, 4]}]}
        with httpx.Client(timeout=20, trust_env=False, headers=headers) as client:
            while not self._stop.is_set():
                try:
                    response = client.post(self._url, json=body)
                except httpx.HTTPError as error:
                    self.failures.append(repr(error))
                    continue
                if response.status_code != 200:
                    self.failures.append(f"{response.status_code} {response.text}")
                    continue
                answer = response.json()
                version, value = answer["model_version"], answer["outputs"][0]["data"][0]
                if value != 10 + 100 * int(version):
                    self.mixed.append(f"{version}: {value}")
                self.versions[version] += 1
