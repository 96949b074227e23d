"""A model's process gives memory back when nothing has come for a while."""

import msgspec
import numpy as np
import pytest

from penstock.core.signature import Signature
from penstock.core.tensors import Tensors
from penstock.models.runtimes import worker
from penstock.models.runtimes.arena import Arena


class Double:
    signature = Signature.of(inputs={"x": "INT64[-1]"}, outputs={"y": "INT64[-1]"})

    def run(self, tensors: Tensors) -> Tensors:
        return {"y": 2 * tensors["x"]}


def load() -> Double:
    return Double()


class Connection:
    """Brings messages; before one that is None, nothing comes for a while."""

    def __init__(self, *messages: bytes | None) -> None:
        self.messages = [*messages]
        self.happened: list[str] = []

    def send_bytes(self, message: bytes) -> None:
        self.happened.append("answer" if b"Answer" in message else "loaded")

    def poll(self, _seconds: float) -> bool:
        quiet = bool(self.messages) and self.messages[0] is None
        if quiet:
            self.messages.pop(0)
        return not quiet

    def recv_bytes(self) -> bytes:
        if not self.messages:
            raise EOFError
        message = self.messages.pop(0)
        assert message is not None, "it blocks while nobody asks, after it has rested"
        return message


def test_once_after_work(monkeypatch: pytest.MonkeyPatch) -> None:
    requests, replies = Arena.create(), Arena.create()
    run = msgspec.msgpack.encode(worker.Run(requests.write({"x": np.array([1], "<i8")})))
    connection = Connection(run, run, None, run, None)
    monkeypatch.setattr(worker, "give_back_memory", lambda: connection.happened.append("rest"))
    worker.serve(connection, requests, replies, f"{__name__}:load", msgspec.msgpack.encode({}))  # type: ignore[arg-type]
    assert connection.happened == ["loaded", "answer", "answer", "rest", "answer", "rest"]
    requests.close()
    replies.close()
