from typing import Any

import numpy as np
import pytest

from penstock.core.errors import ConfigurationError, ModelFailed
from penstock.core.signature import Signature
from penstock.serving.fallback.fitting import check_backup, constant_answer, fitted
from penstock.serving.fallback.rungs import Constant


def signature(inputs: dict[str, str], outputs: dict[str, str]) -> Signature:
    return Signature.of(inputs=inputs, outputs=outputs)


MODEL = signature({"a": "FP32[-1, 3]", "s": "STRING[-1]"}, {"y": "FP32[-1]", "n": "INT64[-1, 2]"})


@pytest.mark.parametrize(
    "backup",
    [
        MODEL,
        signature({"a": "FP32[-1, 3]"}, {"y": "FP32[-1]", "n": "INT64[-1, 2]", "more": "FP64[-1]"}),
        signature({"a": "FP32[-1, -1]"}, {"n": "INT64[-1, 2]", "y": "FP32[-1]"}),
    ],
)
def test_what_can_stand_in(backup: Signature) -> None:
    check_backup("m", MODEL, "b", backup)


@pytest.mark.parametrize(
    ("backup", "said"),
    [
        (
            signature({"b": "FP32[-1]"}, {"y": "FP32[-1]", "n": "INT64[-1, 2]"}),
            "'m' has no input 'b', which 'b'",
        ),
        (signature({"a": "FP32[-1, 3]"}, {"y": "FP32[-1]"}), "'b' has no output 'n', which 'm' has"),
        (
            signature({"a": "FP64[-1, 3]"}, {"y": "FP32[-1]", "n": "INT64[-1, 2]"}),
            "input 'a' is FP64[-1, 3] in 'b', FP32[-1, 3] in 'm'",
        ),
        (
            signature({"a": "FP32[-1, 4]"}, {"y": "FP32[-1]", "n": "INT64[-1, 2]"}),
            "input 'a' is FP32[-1, 4] in 'b', FP32[-1, 3] in 'm'",
        ),
        (
            signature({"a": "FP32[8, 3]"}, {"y": "FP32[-1]", "n": "INT64[-1, 2]"}),
            "input 'a' is FP32[8, 3] in 'b'",
        ),
        (
            signature({"a": "FP32[-1, 3]"}, {"y": "FP32[-1]", "n": "INT64[-1, -1]"}),
            "output 'n' is INT64[-1, -1] in 'b', INT64[-1, 2] in 'm'",
        ),
        (
            signature({"a": "FP32[-1, 3]"}, {"y": "FP32[-1, 1]", "n": "INT64[-1, 2]"}),
            "output 'y' is FP32[-1, 1] in 'b', FP32[-1] in 'm'",
        ),
    ],
)
def test_what_cannot(backup: Signature, said: str) -> None:
    with pytest.raises(ConfigurationError, match="'b' cannot be a fallback of 'm'") as caught:
        check_backup("m", MODEL, "b", backup)
    assert said in caught.value.message


@pytest.mark.parametrize(
    ("notation", "value", "row"),
    [
        ("FP32[-1]", 0.2, np.float32(0.2)),
        ("FP64[-1]", 1, 1.0),
        ("FP32[-1, 3]", 0.5, [0.5, 0.5, 0.5]),
        ("FP32[-1, 3]", [1, 2, 3], [1, 2, 3]),
        ("FP32[-1, -1]", [1, 2], [1, 2]),
        ("INT8[-1]", -7, -7),
        ("INT64[-1]", 2.0, 2),
        ("BOOL[-1]", True, True),
        ("STRING[-1]", "late", "late"),
        ("STRING[-1, 2]", ["a", "b"], ["a", "b"]),
        ("BYTES[-1]", b"\xff", b"\xff"),
        ("FP32?[-1]", float("nan"), float("nan")),
    ],
)
def test_constants(notation: str, value: Any, row: Any) -> None:
    of = signature({"x": "FP32[-1]"}, {"y": notation})
    answer = constant_answer("m", of, Constant(values={"y": value}))
    for rows in (1, 5):
        (given,) = answer(rows).values()
        assert given.dtype == of.outputs[0].dtype
        np.testing.assert_array_equal(given, np.array([row] * rows, dtype=given.dtype))
        as_input = Signature(inputs=of.outputs, outputs=of.outputs)
        as_input.conform({"y": given})


@pytest.mark.parametrize(
    ("notation", "value"),
    [
        ("FP32[-1]", "0.2"),
        ("FP32[-1]", None),
        ("FP32[-1]", [0.1, 0.2]),
        ("FP32[-1]", float("nan")),
        ("FP32[-1]", 1e300),
        ("FP32[-1, 3]", [1, 2]),
        ("FP32[-1, -1]", 1.0),
        ("INT8[-1]", 300),
        ("INT64[-1]", 0.5),
        ("UINT8[-1]", -1),
        ("BOOL[-1]", 1),
        ("INT64[-1]", True),
        ("STRING[-1]", 5),
        ("STRING[-1]", b"x"),
        ("BYTES[-1]", "x"),
        ("FP32[-1]", {"a": 1}),
        ("FP32[-1]", "x" * 100_000),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_constants_that_do_not_fit(notation: str, value: Any) -> None:
    of = signature({"x": "FP32[-1]"}, {"y": notation})
    with pytest.raises(ConfigurationError, match=r"model 'm': constant y=.* does not fit output") as caught:
        constant_answer("m", of, Constant(values={"y": value}))
    assert len(caught.value.message) < 300


@pytest.mark.parametrize("values", [{"z": 1.0}, {"y": 1.0}, {"y": 1.0, "n": [1, 2], "z": 1}])
def test_constants_of_other_outputs(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="gives other outputs than the model") as caught:
        constant_answer("m", MODEL, Constant(values=values))
    assert caught.value.hint == "the model gives y, n: name them all"


def test_what_a_heuristic_may_return() -> None:
    of = signature({"x": "FP32[-1]"}, {"y": "FP32[-1]"})
    for returned in (np.ones(2), [1.0, 1.0], np.ones((2, 1), "<f2"), [1, 1]):
        given = fitted(of, {"y": returned, "more": 5}, 2)
        assert given["y"].dtype == "<f4"
        assert given["y"].tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (None, "returned NoneType, not a dict"),
        ({}, "returned no output 'y'"),
        ({"y": [1.0]}, "gave 1 rows for 2"),
        ({"y": [[1.0, 2.0], [1.0, 2.0]]}, "expected shape"),
        ({"y": ["a", "b"]}, "against the model's signature"),
        ({"y": [1j, 1j]}, "against the model's signature"),
        ({"y": [float("nan"), 1.0]}, "output 'y', row 0"),
        ({"y": 5.0}, "against the model's signature"),
        ({"y": [[1.0], [1.0, 2.0]]}, "against the model's signature"),
    ],
)
def test_what_a_heuristic_may_not_return(returned: Any, said: str) -> None:
    of = signature({"x": "FP32[-1]"}, {"y": "FP32[-1]"})
    with pytest.raises(ModelFailed, match=said):
        fitted(of, returned, 2)
