"""What the server of the client tests serves, and what its models have to answer.

The expected outputs come from scikit-learn and from numpy, never from the server.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from running_server import columns
from sample_models import SampleModel, make_flights, make_matrix

from penstock.core.tensors import DataType

APP = """
import time
import numpy as np
import penstock as ps
from penstock import InvalidInput, Signature

# A machine with much else to do must not be refused for that.
app = ps.App("clients", objective=ps.Objective(latency_ms=60_000))
app.model("late")
app.model("linear", version=2)
app.model("spare")

TYPES = (
    ("flag", "BOOL"), ("u8", "UINT8"), ("u16", "UINT16"), ("u32", "UINT32"), ("u64", "UINT64"),
    ("i8", "INT8"), ("i16", "INT16"), ("i32", "INT32"), ("i64", "INT64"),
    ("fp32", "FP32"), ("fp64", "FP64"), ("text", "STRING"), ("raw", "BYTES"),
)

@app.callable(
    "types",
    signature=Signature.of(
        inputs={name: f"{datatype}[-1, 3]" for name, datatype in TYPES},
        outputs={f"{name}_back": f"{datatype}[-1, 3]" for name, datatype in TYPES},
    ),
)
def types(inputs):
    return {f"{name}_back": array[:, ::-1] for name, array in inputs.items()}

@app.callable(
    "half",
    signature=Signature.of(inputs={"x": "FP16[-1, 3]"}, outputs={"y": "FP16[-1, 3]"}),
)
def half(inputs):
    return {"y": inputs["x"][:, ::-1]}

@app.callable(
    "reverse",
    signature=Signature.of(inputs={"x": "FP32[-1, -1]"}, outputs={"y": "FP32[-1, -1]"}),
)
def reverse(inputs):
    return {"y": inputs["x"][:, ::-1]}

@app.callable(
    "moody",
    signature=Signature.of(inputs={"x": "FP32?[-1]"}, outputs={"y": "FP32[-1]"}),
)
def moody(inputs):
    x = inputs["x"]
    if (x > 100).any():
        raise InvalidInput("input 'x' is above 100", where="x")
    if (x < 0).any():
        raise ValueError("x is below 0")
    x = np.where(np.isnan(x), np.float32(-1), x)
    time.sleep(max(0.0, float(x.max())))
    return {"y": x}
"""
BF16 = """
@app.callable(
    "brain",
    signature=Signature.of(inputs={"x": "BF16[-1, 3]"}, outputs={"y": "BF16[-1, 3]"}),
)
def brain(inputs):
    return {"y": inputs["x"][:, ::-1]}
"""
PATTERN = 10
REPEATS = 30_000
"""A tensor past the size from which answers are compressed, told as its pattern."""
_INTEGERS = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64")
_SHORT = {"uint8": "u8", "uint16": "u16", "uint32": "u32", "uint64": "u64"}
_SHORT |= {"int8": "i8", "int16": "i16", "int32": "i32", "int64": "i64"}


def app_text() -> str:
    return APP + (BF16 if "BF16" in DataType.__members__ else "")


def write_facts(file: Path, told: Mapping[str, Any], late: SampleModel, linear: SampleModel) -> None:
    """What the scripts are told: where the server is, inputs and what has to come back."""
    cases: dict[str, Any] = {"late": _late(late), **_types(), **_floats()}
    x = onnx.load(linear.file).graph.input[0].name
    matrix = make_matrix(5, seed=21)
    cases["linear"] = _linear("linear", "2", {x: matrix}, linear)
    cases["spare"] = _linear("spare", "1", {x: matrix}, linear)
    for row in range(8):
        cases[f"row{row}"] = _linear("linear", "2", {x: make_matrix(1, seed=30 + row)}, linear)
    file.write_text(json.dumps({**told, "cases": cases}))


def _late(late: SampleModel) -> dict[str, Any]:
    rows = make_flights(20, seed=22)
    outputs = {
        "label": late.native.predict(rows).astype(object),
        "probabilities": late.native.predict_proba(rows).astype(np.float32),
    }
    return _case("late", "1", columns(rows), outputs)


def _linear(model: str, version: str, inputs: dict[str, Any], linear: SampleModel) -> dict[str, Any]:
    (matrix,) = inputs.values()
    outputs = {
        "label": linear.native.predict(matrix),
        "probabilities": linear.native.predict_proba(matrix).astype(np.float32),
    }
    return _case(model, version, inputs, outputs)


def _types() -> dict[str, Any]:
    """Every type, the ends of the integers' ranges among them, reversed row by row."""
    inputs: dict[str, Any] = {"flag": np.array([[True, False, False], [False, True, True]])}
    for name in _INTEGERS:
        limits = np.iinfo(name)
        inputs[_SHORT[name]] = np.array([[limits.min, 1, limits.max], [2, 3, 4]], dtype=name)
    inputs["fp32"] = np.array([[0.1, -2.5, 3e38], [1, 2, 3]], dtype=np.float32)
    inputs["fp64"] = np.array([[0.1, -2.5, 1e300], [1, 2, 3]])
    inputs["text"] = np.array([["straße", "", "日本"], ["a", "b", "c\u0000d"]], dtype=object)
    plain = np.array([[b"a", b"", "ü".encode()], [b"1", b"2", b"3"]], dtype=object)
    binary = np.array([[b"\x00\xff", b"", b"\x80"], [b"1", b"2", bytes(range(256))]], dtype=object)
    cases = {}
    for case, raw in (("types", binary), ("types_json", plain)):
        given = {**inputs, "raw": raw}
        cases[case] = _case(
            "types", "", given, {f"{name}_back": array[:, ::-1] for name, array in given.items()}
        )
    return cases


def _floats() -> dict[str, Any]:
    matrix = np.array([[0.5, -2, 3.25], [1, 65504, 0]], dtype=np.float16)
    wide = np.arange(PATTERN, dtype=np.float32)[None]
    empty = np.zeros((2, 0), dtype=np.float32)
    brain = np.array([[0.5, -2, 3.25], [1, 2.0**100, 0]], dtype=np.float32)
    return {
        "half": _case("half", "", {"x": matrix}, {"y": matrix[:, ::-1]}),
        "wide": _case("reverse", "", {"x": wide}, {"y": wide[:, ::-1]}, columns_repeat=REPEATS),
        "empty": _case("reverse", "", {"x": empty}, {"y": empty}),
        "bf16": _case("brain", "", {"x": brain}, {"y": brain[:, ::-1]}),
    }


def _case(
    model: str, version: str, inputs: Mapping[str, Any], outputs: Mapping[str, Any], *, columns_repeat: int = 1
) -> dict[str, Any]:
    return {
        "columns_repeat": columns_repeat,
        "model": model,
        "version": version,
        "inputs": {name: _told(array) for name, array in inputs.items()},
        "outputs": {name: _told(array) for name, array in outputs.items()},
    }


def _told(array: Any) -> dict[str, Any]:
    data = array.ravel().tolist()
    datatype = array.dtype.name
    if datatype == "object":
        datatype = "bytes" if isinstance(data[0], bytes) else "text"
        data = [element.hex() if isinstance(element, bytes) else element for element in data]
    return {"datatype": datatype, "shape": list(array.shape), "data": data}
