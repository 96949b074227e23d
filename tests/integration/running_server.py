"""Runs the real server, `penstock run`, and speaks V2 to it."""

import json
import re
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl
import psutil
from command_line import PATIENCE_S, CommandLine

_LISTENING = re.compile(r"listening on http://127\.0\.0\.1:(\d+)")
_SPEAKING_GRPC = re.compile(r"gRPC on port (\d+)")
_DATATYPES = {"float32": "FP32", "float64": "FP64", "int64": "INT64", "object": "BYTES"}

BODY_BYTES_MAX = 1_000_000


class RunningServer:
    """A server process that accepts requests."""

    def __init__(self, process: "subprocess.Popen[str]", log: Path) -> None:
        self.process = process
        self._log = log
        self.port = self._wait_for_port()
        self.url = f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """What it has said on stderr."""
        return self._log.read_text()

    @property
    def grpc_port(self) -> int:
        """Where it speaks gRPC. It was started with a port for it, perhaps 0."""
        found = _SPEAKING_GRPC.search(self.log)
        assert found is not None, self.log
        return int(found[1])

    @property
    def folder(self) -> Path:
        """Where it runs, and so its models."""
        return self._log.parent

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=PATIENCE_S, trust_env=False)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Signals it; its exit status."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)

    def _wait_for_port(self) -> int:
        deadline_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline_s:
            found = _LISTENING.search(self.log)
            if found is not None:
                return int(found[1])
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise AssertionError(f"the server did not start: {self.log}")


@contextmanager
def running(
    commands: CommandLine, app: str, *options: str, environment: Mapping[str, str] | None = None
) -> Iterator[RunningServer]:
    """A server of the app file with this text, on a free port. Its processes are gone afterwards."""
    file, log = commands.folder / "app.py", commands.folder / "server.log"
    file.write_text(app)
    with log.open("w") as stderr:
        process = commands.start(
            "run",
            file,
            "--port",
            "0",
            "--set",
            "server.grace_s=0",
            *options,
            environment=environment,
            stderr=stderr,
        )
    family: list[psutil.Process] = []
    try:
        server = RunningServer(process, log)
        family = server.children()
        yield server
    finally:
        if process.poll() is None:
            family += psutil.Process(process.pid).children(recursive=True)
            process.kill()
        process.communicate(timeout=PATIENCE_S)
        for member in family:
            if member.is_running():
                member.kill()


def wait_for(condition: Callable[[], bool], server: RunningServer) -> None:
    """Until it holds; fails with what the server has said where it does not in time."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, server.log
        time.sleep(0.1)


def tensor(name: str, array: Any) -> dict[str, Any]:
    datatype = _DATATYPES[array.dtype.name]
    return {"name": name, "datatype": datatype, "shape": list(array.shape), "data": array.ravel().tolist()}


def columns(rows: pl.DataFrame) -> dict[str, Any]:
    """The frame's columns as arrays, text as objects."""
    return {
        each.name: np.array(each.to_list(), dtype=object) if each.dtype == pl.String else each.to_numpy()
        for each in rows
    }


def v2_json(inputs: Mapping[str, Any], **further: Any) -> dict[str, Any]:
    return {"inputs": [tensor(name, array) for name, array in inputs.items()], **further}


def v2_binary(inputs: Mapping[str, Any], **further: Any) -> tuple[bytes, dict[str, str]]:
    """The body and the headers of a request whose tensors go in binary, as do those of its answer."""
    heads, chunks = [], []
    for name, array in inputs.items():
        chunk = _raw(array)
        head = {key: value for key, value in tensor(name, array).items() if key != "data"}
        heads.append({**head, "parameters": {"binary_data_size": len(chunk)}})
        chunks.append(chunk)
    message = {"inputs": heads, "parameters": {"binary_data_output": True}, **further}
    head = json.dumps(message).encode()
    headers = {
        "content-type": "application/octet-stream",
        "inference-header-content-length": str(len(head)),
    }
    return b"".join((head, *chunks)), headers


def outputs(response: httpx.Response) -> dict[str, Any]:
    """The outputs of an answer as arrays, whether they came in JSON or in binary."""
    assert response.status_code == 200, response.text
    json_bytes = response.headers.get("inference-header-content-length")
    if json_bytes is None:
        return {each["name"]: _shaped(each["data"], each["shape"]) for each in response.json()["outputs"]}
    message = json.loads(response.content[: int(json_bytes)])
    raw = response.content[int(json_bytes) :]
    found = {}
    for each in message["outputs"]:
        size = each["parameters"]["binary_data_size"]
        found[each["name"]] = _unraw(raw[:size], each["datatype"]).reshape(each["shape"])
        raw = raw[size:]
    assert raw == b""
    return found


def _shaped(data: Sequence[Any], shape: Sequence[int]) -> Any:
    text = bool(data) and isinstance(data[0], str)
    return np.array(data, dtype=object if text else None).reshape(shape)


def _raw(array: Any) -> bytes:
    if array.dtype != object:
        return bytes(np.ascontiguousarray(array).tobytes())
    encoded = [element.encode() for element in array.ravel().tolist()]
    return b"".join(struct.pack("<I", len(element)) + element for element in encoded)


def _unraw(raw: bytes, datatype: str) -> Any:
    if datatype != "BYTES":
        (dtype,) = [name for name, wire in _DATATYPES.items() if wire == datatype]
        return np.frombuffer(raw, dtype=dtype)
    elements = []
    while raw:
        (size,) = struct.unpack_from("<I", raw)
        elements.append(raw[4 : 4 + size].decode())
        raw = raw[4 + size :]
    return np.array(elements, dtype=object)
