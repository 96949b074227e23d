"""An answer is right only with its own id, one version throughout, and the model's own number."""

import copy

import pytest
from benchmarks.protocols.version_checker import judge

RIGHT = {
    "id": "7",
    "model_version": "3",
    "outputs": [{"name": "probabilities", "data": [0.25, 0.75]}, {"name": "version", "data": [3]}],
}


def test_a_right_answer():
    assert judge(RIGHT, asked_id="7", probability=0.75) == "right"


def test_outputs_of_another_version_are_mixed():
    document = copy.deepcopy(RIGHT)
    document["outputs"][1]["data"] = [4]

    assert judge(document, asked_id="7", probability=0.75) == "mixed"


@pytest.mark.parametrize(("asked_id", "probability"), [("8", 0.75), ("7", 0.5)])
def test_somebody_elses_answer_is_wrong(asked_id, probability):
    assert judge(RIGHT, asked_id=asked_id, probability=probability).startswith("wrong")
