"""How each kind of server is asked about one row, and how its answer is read."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

__all__ = ["Answer", "BentoRows", "Dialect", "EchoedV2", "Features", "V2Binary", "V2Json", "WrongAnswer"]

JSON_HEADERS = {"Content-Type": "application/json"}
HEAD_LENGTH = "Inference-Header-Content-Length"


class WrongAnswer(Exception):
    """An answer with status 200 that is not the model's."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer with status 200: the body it answers, its headers in lower case, its own body."""

    asked: bytes
    headers: Mapping[str, str]
    body: bytes


class Dialect(Protocol):
    """One row to a request, the answer to a probability (None where an answer holds none, but is right)."""

    def encode(self, row: Sequence[float]) -> tuple[bytes, dict[str, str]]: ...

    def decode(self, answer: Answer) -> float | None: ...


class Features:
    """`{"features": [...]}` → `{"probability": p}`: what people write."""

    def encode(self, row: Sequence[float]) -> tuple[bytes, dict[str, str]]:
        return json.dumps({"features": row}).encode(), dict(JSON_HEADERS)

    def decode(self, answer: Answer) -> float:
        return float(json.loads(answer.body)["probability"])


class BentoRows:
    """A batch of one row under the name of the argument → a list of one probability."""

    def encode(self, row: Sequence[float]) -> tuple[bytes, dict[str, str]]:
        return json.dumps({"rows": [row]}).encode(), dict(JSON_HEADERS)

    def decode(self, answer: Answer) -> float:
        (probability,) = json.loads(answer.body)
        return float(probability)


class V2Json:
    """The Open Inference Protocol, version 2, as JSON."""

    def __init__(self, input_name: str = "x") -> None:
        self.input_name = input_name

    def encode(self, row: Sequence[float]) -> tuple[bytes, dict[str, str]]:
        tensor = {"name": self.input_name, "shape": [1, len(row)], "datatype": "FP32", "data": list(row)}
        return json.dumps({"inputs": [tensor]}).encode(), dict(JSON_HEADERS)

    def decode(self, answer: Answer) -> float:
        output = _probabilities(json.loads(answer.body)["outputs"])
        return float(np.ravel(output["data"])[-1])


class V2Binary(V2Json):
    """The same with the binary tensor extension, both ways."""

    def encode(self, row: Sequence[float]) -> tuple[bytes, dict[str, str]]:
        data = np.asarray(row, dtype="<f4").tobytes()
        tensor = {
            "name": self.input_name,
            "shape": [1, len(row)],
            "datatype": "FP32",
            "parameters": {"binary_data_size": len(data)},
        }
        head = json.dumps({"parameters": {"binary_data_output": True}, "inputs": [tensor]}).encode()
        return head + data, {"Content-Type": "application/octet-stream", HEAD_LENGTH: str(len(head))}

    def decode(self, answer: Answer) -> float:
        if HEAD_LENGTH.lower() not in answer.headers:
            raise WrongAnswer("asked for binary tensors, answered without them")
        position = int(answer.headers[HEAD_LENGTH.lower()])
        outputs = json.loads(answer.body[:position])["outputs"]
        wanted = _probabilities(outputs)
        for output in outputs:
            size = int(output["parameters"]["binary_data_size"])
            if output is wanted:
                dtype = "<f4" if output["datatype"] == "FP32" else "<f8"
                return float(np.frombuffer(answer.body[position : position + size], dtype=dtype)[-1])
            position += size
        raise WrongAnswer("no output holds probabilities")


class EchoedV2(V2Json):
    """The very same request as V2 JSON; the answer is its body."""

    def decode(self, answer: Answer) -> None:
        if answer.body != answer.asked:
            raise WrongAnswer("the echo is not the body that was sent")


def _probabilities(outputs: list[dict[str, object]]) -> dict[str, object]:
    floats = [output for output in outputs if output["datatype"] in ("FP32", "FP64")]
    if not floats:
        raise WrongAnswer("no output holds probabilities")
    return floats[-1]
