"""V2's REST form over a real data plane and a fake runtime."""

import asyncio
import json

import pytest
from test_application import INFER, Rig, ask, message, refused

from penstock.core.signature import Signature
from penstock.serving.protocols.v2.descriptions import model_statistics
from penstock.serving.statistics import BreakerCounts, CacheCounts, DeploymentStatistics, Durations

ALL = {
    "double": Signature.of(inputs={"x": "FP32[-1, 2]"}, outputs={"y": "FP32[-1, 2]"}),
    "words": Signature.of(inputs={"s": "STRING[-1]"}, outputs={"t": "BYTES[-1, 3]", "h": "BF16[-1]"}),
    "bound": Signature.of(inputs={"x": "INT64[4, 2]"}, outputs={"y": "INT64[4, 2]"}),
}


def outputs(answer):
    assert answer.status == 200, answer.body
    return {each["name"]: each for each in answer.json["outputs"]}


def test_the_server_tells_its_extensions():
    told = ask("/v2").json
    assert (told["name"], told["version"]) == ("penstock", "0.1")
    assert {"binary_tensor_data", "model_configuration", "model_repository", "statistics"} <= set(
        told["extensions"]
    )


def test_health():
    async def asking():
        rig = Rig()
        live, ready = await rig.ask("/v2/health/live"), await rig.ask("/v2/health/ready")
        assert (live.status, live.json) == (200, {"live": True, "ready": True})
        assert (ready.status, ready.json) == (200, {"live": True, "ready": True})
        rig.instance.ready = False
        live, ready = await rig.ask("/v2/health/live"), await rig.ask("/v2/health/ready")
        assert (live.status, live.json) == (200, {"live": True, "ready": False})
        assert (ready.status, ready.json) == (503, {"live": True, "ready": False})
        rig.plane.refuse()
        model = await rig.ask("/v2/models/double/ready")
        assert (model.status, model.json) == (503, {"name": "double", "version": "1", "ready": False})

    asyncio.run(asking())


@pytest.mark.parametrize("path", ["/v2/models/double", "/v2/models/double/versions/2"])
def test_everything_of_a_model_has_a_version_in_its_path_too(path):
    async def asking():
        rig = Rig()
        rig.add("double", "2")
        named = "2" if "versions" in path else "1"
        answer = await rig.ask(f"{path}/infer", message(id="mine"))
        assert answer.json["model_version"] == named
        assert answer.json["id"] == "mine"
        assert (await rig.ask(f"{path}/ready")).json == {"name": "double", "version": named, "ready": True}
        assert (await rig.ask(path)).json["versions"] == ["1", "2"]
        assert (await rig.ask(f"{path}/config")).json["name"] == "double"
        stats = (await rig.ask(f"{path}/stats")).json["model_stats"]
        assert [each["version"] for each in stats] == (["2"] if named == "2" else ["1", "2"])
        refused(await rig.ask("/v2/models/double/versions/3/config"), 404, "no version '3'")

    asyncio.run(asking())


def test_names_may_be_percent_encoded():
    assert ask("/v2/models/%64oubl%65/infer", message()).status == 200
    assert ask("/v2/models/double/%69nfer?x=1", message()).status == 200
    refused(ask("/v2/models/%ff%00/infer", message()), 404)
    refused(ask("/v2/models/double%2Finfer", message()), 404)


def test_a_model_s_configuration_is_triton_s():
    assert ask("/v2/models/words/config", signatures=ALL).json == {
        "name": "words",
        "platform": "fake",
        "backend": "fake",
        "max_batch_size": 64,
        "input": [{"name": "s", "data_type": "TYPE_STRING", "dims": [1], "reshape": {"shape": []}}],
        "output": [
            {"name": "t", "data_type": "TYPE_STRING", "dims": [3]},
            {"name": "h", "data_type": "TYPE_BF16", "dims": [1], "reshape": {"shape": []}},
        ],
    }
    bound = ask("/v2/models/bound/config", signatures=ALL).json
    assert (bound["max_batch_size"], bound["input"][0]["dims"]) == (0, [4, 2])


def test_statistics_are_triton_s():
    async def asking():
        rig = Rig()
        for rows in (3, 3, 5):
            assert (await rig.ask(INFER, message(rows))).status == 200
        wrong = json.loads(message())
        wrong["inputs"][0] |= {"shape": [1, 3], "data": [1.0, 2.0, 3.0]}
        refused(await rig.ask(INFER, json.dumps(wrong).encode()), 400)
        (stats,) = (await rig.ask("/v2/models/stats")).json["model_stats"]
        assert (stats["name"], stats["version"]) == ("double", "1")
        assert (stats["inference_count"], stats["execution_count"]) == (11, 3)
        seen = stats["inference_stats"]
        assert (seen["success"]["count"], seen["fail"]["count"], seen["queue"]["count"]) == (3, 1, 3)
        assert seen["success"]["ns"] > seen["compute_infer"]["ns"] > 1000
        assert [(each["batch_size"], each["compute_infer"]["count"]) for each in stats["batch_stats"]] == [
            (3, 2),
            (5, 1),
        ]
        assert sum(each["compute_infer"]["ns"] for each in stats["batch_stats"]) == pytest.approx(
            seen["compute_infer"]["ns"], abs=2
        )
        assert stats["last_inference"] > 1.6e12

    asyncio.run(asking())


def test_statistics_of_a_cache_are_triton_s_and_the_rest_has_a_place_of_its_own():
    plain, kept = (
        DeploymentStatistics(model="plain", version="1"),
        DeploymentStatistics(
            model="kept",
            version="1",
            cache=CacheCounts(hits=Durations(6, 3e-6), misses=2, joined=1, saved_s=0.5),
            breaker=BreakerCounts(states={"open": 2}, opened=2),
        ),
    )
    of_plain, of_kept = model_statistics((plain, kept))["model_stats"]
    assert "penstock" not in of_plain
    assert of_plain["inference_stats"]["cache_hit"] == {"count": 0, "ns": 0}
    assert of_kept["inference_stats"]["cache_hit"] == {"count": 6, "ns": 3000}
    assert of_kept["inference_stats"]["cache_miss"] == {"count": 3, "ns": 0}
    assert of_kept["penstock"]["cache"]["hit_ratio"] == pytest.approx(7 / 9)
    assert of_kept["penstock"]["breaker"]["states"] == {"open": 2}
    assert "ladder" not in of_kept["penstock"]


def test_the_repository_is_listed():
    for body in (b"", b"{}", b'{"ready": false}'):
        listed = ask("/v2/repository/index", body, method="POST").json
        assert listed == [
            {"name": "double", "version": "1", "state": "READY", "reason": ""},
            {"name": "other", "version": "3", "state": "UNAVAILABLE", "reason": "not wanted"},
        ]
    ready = ask("/v2/repository/index", b'{"ready": true}').json
    assert [each["name"] for each in ready] == ["double"]
    refused(ask("/v2/repository/index"), 405)


def test_models_are_loaded_and_unloaded():
    async def asking():
        rig = Rig()
        for what in ("load", "unload"):
            for body in (b"", b"{}", b'{"parameters": {}}', b'{"parameters": {"version": "7"}}'):
                path = f"/v2/repository/models/m.x/{what}"
                answer = await rig.ask(path, body, method="POST")
                assert (answer.status, answer.json) == (200, {"name": "m.x", what: True})
            assert rig.instance.asked == [(what, "m.x", None)] * 3 + [(what, "m.x", "7")]
            rig.instance.asked.clear()
        body = b'{"parameters": {"unload_dependents": false}}'
        assert (await rig.ask("/v2/repository/models/m/unload", body)).status == 200
        assert (await rig.ask("/v2/repository/models/m/load", b'{"parameters": {"version": 7}}')).status == 200
        assert rig.instance.asked[-1] == ("load", "m", "7")
        refused(await rig.ask("/v2/repository/models/nothing/load", b"{}"), 404, "nothing")
        refused(await rig.ask("/v2/repository/models/forbidden/load", b"{}"), 403, "server.model_control")

    asyncio.run(asking())


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"parameters": {"config": "{}"}}', "unknown parameter 'config'"),
        (b'{"parameters": {"file:1/model.onnx": "x"}}', "unknown parameter"),
        (b'{"parameters": {"version": true}}', "not a version"),
        (b'{"parameters": 3}', "repository extension"),
        (b"nonsense", "not JSON"),
        (b"[" * 100_000, ""),
        (b"\xff", ""),
    ],
)
def test_a_load_that_is_wrong(body, said):
    refused(ask("/v2/repository/models/m/load", body), 400, said)


def test_parameters_that_nobody_knows_are_passed_over():
    known = {"parameters": {"anything": [1], "sequence_id": 0, "priority": 3, "timeout": 10**6}}
    assert ask(INFER, message(**known)).status == 200


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"sequence_id": 7}, "sequences"),
        ({"sequence_id": "abc"}, "sequences"),
        ({"sequence_start": True}, "sequences"),
        ({"priority": -1}, "priority"),
        ({"priority": 1.5}, "priority"),
        ({"priority": True}, "priority"),
        ({"priority": "high"}, "priority"),
        ({"timeout": "1s"}, "microseconds"),
    ],
)
def test_parameters_that_cannot_be_met(parameters, said):
    refused(ask(INFER, message(parameters=parameters)), 400, said)


@pytest.mark.parametrize(
    ("priority", "class_"), [(None, 2), (0, 2), (1, 1), (2, 2), (4, 4), (5, 4), (10**30, 4)]
)
def test_priorities(priority, class_):
    async def asking():
        rig = Rig()
        (deployment,) = rig.plane.deployments()
        asked = []
        infer = deployment.infer
        deployment.infer = lambda *values: (asked.append(values[0].criticality), infer(*values))[1]
        parameters = {} if priority is None else {"priority": priority}
        assert (await rig.ask(INFER, message(parameters=parameters))).status == 200
        assert asked == [class_]

    asyncio.run(asking())


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ({"name": "y", "parameters": {"classification": 3}}, "classification"),
        ({"name": "y", "parameters": {"shared_memory_region": "r"}}, "shared memory"),
        ({"name": "y", "parameters": {"binary_data": 1}}, "binary_data"),
    ],
)
def test_outputs_in_a_form_that_is_not_given(output, said):
    refused(ask(INFER, message(outputs=[output])), 400, said)


def test_inputs_in_shared_memory():
    given = {"name": "x", "datatype": "FP32", "shape": [1, 2], "parameters": {"shared_memory_region": "r"}}
    refused(ask(INFER, json.dumps({"inputs": [given]}).encode()), 400, "shared memory")


@pytest.mark.parametrize("default", [False, True])
def test_outputs_take_on_what_they_do_not_say(default):
    asked = [{"name": "t"}, {"name": "h", "parameters": {"binary_data": not default}}]
    signature = Signature.of(inputs={"x": "FP32[-1]"}, outputs={"t": "FP32[-1]", "h": "FP32[-1]"})
    body = {
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1.5]}],
        "outputs": asked,
        "parameters": {"binary_data_output": default},
    }
    answer = ask("/v2/models/m/infer", json.dumps(body).encode(), signatures={"m": signature})
    json_bytes = int(answer.headers["inference-header-content-length"])
    told = {each["name"]: each for each in json.loads(answer.body[:json_bytes])["outputs"]}
    assert ("data" in told["t"], "data" in told["h"]) == (not default, default)
    assert len(answer.body) - json_bytes == 4


def test_a_deadline_in_a_header():
    refused(ask(INFER, message(), x_request_timeout_ms="0.000001"), 504)
    assert ask(INFER, message(), x_request_timeout_ms="1000").status == 200
    refused(ask(INFER, message(), x_request_timeout_ms="soon"), 400, "milliseconds")


@pytest.mark.parametrize(
    "path", ["/v3", "/v2/nothing", "/v2/models", "/v2/models/double/nothing", "/v2/repository", "/", "//", "/%"]
)
def test_paths_that_there_are_not(path):
    refused(ask(path), 404, "no such path")
