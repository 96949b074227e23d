import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penstock.core.errors import InvalidInput, TooLarge
from penstock.models.registry.candidate import Candidate, check_candidate
from penstock.models.version import Compilation, Parity

MakeCandidate = Callable[..., Candidate]


@pytest.mark.parametrize(
    ("facts", "where"),
    [
        ({"model": "Late"}, "model"),
        ({"aliases": ("champion", "3")}, "alias"),
        ({"creator": ""}, "creator"),
        ({"creator": "a\nb"}, "creator"),
        ({"creator": "\ud800"}, "creator"),
        ({"creator": "x" * 257}, "creator"),
        ({"metrics": {"auc": math.nan}}, "metrics.auc"),
        ({"metrics": {"auc": math.inf}}, "metrics.auc"),
        ({"metrics": {"auc": "0.9"}}, "metrics.auc"),
        ({"metrics": {"auc": True}}, "metrics.auc"),
        ({"parameters": {"depth": None}}, "parameters.depth"),
        ({"parameters": {"depth": [3]}}, "parameters.depth"),
        ({"parameters": {"rate": -math.inf}}, "parameters.rate"),
        ({"parameters": {"seed": 10**5000}}, "parameters"),
        ({"parameters": {"name": "\ud800"}}, "parameters"),
    ],
)
def test_what_cannot_be_stored_is_named(candidate: MakeCandidate, facts: dict[str, Any], where: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_candidate(candidate(**facts))
    assert caught.value.where == where


def test_a_parity_without_a_finite_value_is_named(candidate: MakeCandidate) -> None:
    parity = Parity(
        rows=1, tolerance=1e-5, labels_differ=0, values_differ=1, difference_max=math.nan, float32_rows=0
    )
    compilation = Compilation(precision="float32", parity=parity)
    with pytest.raises(InvalidInput, match=r"compilations\[0\].parity.difference_max is nan"):
        check_candidate(candidate(compilations=(compilation,)))


def test_numbers_of_numpy_are_numbers(candidate: MakeCandidate) -> None:
    facts = check_candidate(
        candidate(
            metrics={"auc": np.float64(0.5), "loss": np.float32(0.25), "rows": 3},
            parameters={"depth": np.int64(3), "rate": np.float64(0.5), "on": np.bool_(True), "kind": "a"},
        )
    )
    assert json.loads(str(facts["metrics"])) == {"auc": 0.5, "loss": 0.25, "rows": 3.0}
    parameters = json.loads(str(facts["parameters"]))
    assert parameters == {"depth": 3, "rate": 0.5, "on": True, "kind": "a"}
    assert parameters["on"] is True


def test_facts_have_a_limit(candidate: MakeCandidate) -> None:
    with pytest.raises(TooLarge, match="of at most"):
        check_candidate(candidate(parameters={"table": "x" * 5_000_000}))


def test_a_file_may_have_any_name(candidate: MakeCandidate) -> None:
    source = Path("/folder/m\udcffdel.onnx")
    assert candidate(source=source).files()["source"] == (source, "m\ufffddel.onnx")


@pytest.mark.parametrize(
    ("source", "name"),
    [("..", "model"), ("/", "model"), ("folder/..", "model"), ("a\\b.onnx", "a_b.onnx"), ("a\0b", "a_b")],
)
def test_a_name_does_not_lead_out_of_a_folder(candidate: MakeCandidate, source: str, name: str) -> None:
    assert candidate(source=Path(source)).files()["source"][1] == name


def test_files_by_role(candidate: MakeCandidate) -> None:
    files = candidate(compiled=b"onnx", golden=b"rows").files()
    assert {role: name for role, (_, name) in files.items()} == {
        "source": "late.onnx",
        "compiled": "model.onnx",
        "golden": "golden.msgpack",
    }
