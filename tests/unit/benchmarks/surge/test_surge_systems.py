"""How Penstock and its peers are started and asked."""

import json
from pathlib import Path

import pytest
from benchmarks.serving.dialects import Answer
from benchmarks.serving.model import ModelFiles
from benchmarks.serving.systems import Setting
from benchmarks.surge.bench import EVERY_PEER
from benchmarks.surge.systems import V2Rungs, peer, penstock

AT = Setting(port=1234, python=Path("/env/bin/python"), model=ModelFiles(folder=Path("/m")), home=Path("/h"))
BODY = json.dumps({"outputs": [{"name": "probabilities", "datatype": "FP32", "data": [0.25, 0.75]}]}).encode()


@pytest.mark.parametrize(("headers", "probability"), [({}, 0.75), ({"x-penstock-rung": "constant"}, None)])
def test_an_answer_of_another_rung_is_not_held_against_the_model(headers, probability):
    assert V2Rungs().decode(Answer(asked=b"", headers=headers, body=BODY)) == probability


def test_settings_are_passed_on():
    command = penstock(settings=("admission.enabled=false",)).launch(AT).command

    assert command[-2:] == ["--set", "admission.enabled=false"]


def test_every_peer_is_known_by_its_name():
    assert [peer(name).name for name in EVERY_PEER] == list(EVERY_PEER)


def test_the_limited_peer_differs_by_its_limit_alone():
    plain, limited = (peer(name).launch(AT) for name in ("fastapi_onnx", "fastapi_limited"))

    assert limited.command == [*plain.command, "--limit-concurrency", "64"]
    assert limited.folder == plain.folder
