"""Each dialect reads the probability out of an answer of its kind, and nothing out of a wrong one."""

import json

import numpy as np
import pytest
from benchmarks.serving.dialects import Answer, BentoRows, EchoedV2, Features, V2Binary, V2Json, WrongAnswer

OUTPUTS = [
    {"name": "label", "datatype": "INT64", "shape": [1], "data": [1]},
    {"name": "probabilities", "datatype": "FP32", "shape": [1, 2], "data": [0.25, 0.75]},
]


def answered(body: bytes, headers: dict[str, str] | None = None, asked: bytes = b"") -> Answer:
    return Answer(asked=asked, headers=headers or {}, body=body)


@pytest.mark.parametrize(
    ("dialect", "document"),
    [(Features(), {"probability": 0.75}), (BentoRows(), [0.75]), (V2Json(), {"outputs": OUTPUTS})],
)
def test_json_answers(dialect, document):
    assert dialect.decode(answered(json.dumps(document).encode())) == 0.75


def test_binary_tensors_are_found_behind_those_before_them():
    tensors = [np.array([1], "<i8").tobytes(), np.array([0.25, 0.75], "<f4").tobytes()]
    outputs = [
        {"name": name, "datatype": kind, "parameters": {"binary_data_size": len(data)}}
        for (name, kind), data in zip((("label", "INT64"), ("p", "FP32")), tensors, strict=True)
    ]
    head = json.dumps({"outputs": outputs}).encode()
    headers = {"inference-header-content-length": str(len(head))}

    assert V2Binary().decode(answered(head + b"".join(tensors), headers)) == 0.75


def test_a_json_answer_to_a_binary_request_is_wrong():
    with pytest.raises(WrongAnswer):
        V2Binary().decode(answered(json.dumps({"outputs": OUTPUTS}).encode()))


def test_a_binary_request_tells_where_its_head_ends():
    body, headers = V2Binary("rows").encode([1.5] * 30)
    position = int(headers["Inference-Header-Content-Length"])

    assert json.loads(body[:position])["inputs"][0]["name"] == "rows"
    assert np.frombuffer(body[position:], "<f4").tolist() == [1.5] * 30


def test_an_echo_must_be_the_body():
    body, _ = EchoedV2().encode([1.0])

    assert EchoedV2().decode(answered(body, asked=body)) is None
    with pytest.raises(WrongAnswer):
        EchoedV2().decode(answered(b"{}", asked=body))
