"""The server as its clients see it: V2 over HTTP, held against scikit-learn's own predictions."""

import gzip
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families
from running_server import RunningServer, columns, outputs, v2_binary, v2_json
from sample_models import COLUMNS, SampleModel, make_flights, make_matrix

LATE = "/v2/models/late/infer"
LINEAR = "/v2/models/linear/infer"
CALLERS = 32
PROBABILITY_TOLERANCE = 1e-5


def check_late(given: dict[str, Any], late: SampleModel, rows: Any) -> None:
    """The answers for rows of flights are those of the pipeline itself."""
    assert given["label"].tolist() == late.native.predict(rows).tolist()
    expected = late.native.predict_proba(rows)
    assert given["probabilities"].shape == expected.shape
    assert np.abs(given["probabilities"].astype(float) - expected).max() < PROBABILITY_TOLERANCE


def test_metadata_and_health(client: httpx.Client) -> None:
    server = client.get("/v2").json()
    assert server["name"] == "penstock"
    assert {"binary_tensor_data", "model_configuration", "statistics"} <= set(server["extensions"])
    assert client.get("/v2/health/live").json() == {"live": True, "ready": True}
    assert client.get("/v2/health/ready").json()["ready"] is True
    model = client.get("/v2/models/late").json()
    assert (model["name"], model["versions"], model["platform"]) == ("late", ["1"], "onnxruntime")
    assert [each["name"] for each in model["inputs"]] == COLUMNS
    assert [each["datatype"] for each in model["inputs"]] == ["BYTES", "BYTES", "FP32", "FP32"]
    assert [(each["name"], each["shape"]) for each in model["outputs"]] == [
        ("label", [-1]),
        ("probabilities", [-1, 2]),
    ]
    assert client.get("/v2/models/linear/versions/2").json()["versions"] == ["2"]
    for path in ("/v2/models/late/ready", "/v2/models/linear/versions/2/ready"):
        assert client.get(path).json()["ready"] is True
    headed = client.head("/v2/health/live")
    assert (headed.status_code, headed.content) == (200, b"")


@pytest.mark.parametrize("binary", [False, True], ids=["json", "binary"])
def test_answers_are_the_libraries_own(client: httpx.Client, late: SampleModel, binary: bool) -> None:
    rows = make_flights(250, seed=11)
    if binary:
        body, headers = v2_binary(columns(rows))
        response = client.post(LATE, content=body, headers=headers)
        assert response.headers["content-type"] == "application/octet-stream"
    else:
        response = client.post(LATE, json=v2_json(columns(rows)))
        assert response.headers["content-type"] == "application/json"
    check_late(outputs(response), late, rows)


def test_a_matrix_goes_flat_nested_and_binary(client: httpx.Client, linear: SampleModel) -> None:
    matrix = make_matrix(40, seed=12)
    name = client.get("/v2/models/linear").json()["inputs"][0]["name"]
    message = v2_json({name: matrix})
    flat = client.post(LINEAR, json=message)
    message["inputs"][0]["data"] = matrix.tolist()
    nested = client.post(LINEAR, json=message)
    body, headers = v2_binary({name: matrix})
    binary = client.post("/v2/models/linear/versions/2/infer", content=body, headers=headers)
    expected = linear.native.predict_proba(matrix)
    for response in (flat, nested, binary):
        given = outputs(response)
        assert given["label"].tolist() == linear.native.predict(matrix).tolist()
        assert np.abs(given["probabilities"] - expected).max() < PROBABILITY_TOLERANCE


def test_many_callers_each_get_their_own_rows(server: RunningServer, late: SampleModel) -> None:
    frames = [make_flights(1 + index % 5, seed=100 + index) for index in range(8 * CALLERS)]

    def ask(caller: int) -> list[dict[str, Any]]:
        answers = []
        with server.client() as client:
            for frame in frames[caller::CALLERS]:
                if caller % 2:
                    body, headers = v2_binary(columns(frame))
                    response = client.post(LATE, content=body, headers=headers)
                else:
                    response = client.post(LATE, json=v2_json(columns(frame), id=str(frame["delay"][0])))
                    assert response.json()["id"] == str(frame["delay"][0])
                answers.append(outputs(response))
        return answers

    with ThreadPoolExecutor(CALLERS) as callers:
        for caller, answers in enumerate(callers.map(ask, range(CALLERS))):
            for frame, given in zip(frames[caller::CALLERS], answers, strict=True):
                check_late(given, late, frame)


def test_the_id_comes_back_and_outputs_can_be_chosen(client: httpx.Client) -> None:
    inputs = columns(make_flights(3, seed=13))
    answer = client.post(LATE, json=v2_json(inputs, id="Zürich-7", outputs=[{"name": "label"}])).json()
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("Zürich-7", "late", "1")
    assert [each["name"] for each in answer["outputs"]] == ["label"]
    wanted = [{"name": "probabilities", "parameters": {"binary_data": True}}, {"name": "label"}]
    mixed = client.post(LATE, json=v2_json(inputs, outputs=wanted))
    head = mixed.content[: int(mixed.headers["inference-header-content-length"])]
    assert mixed.content[len(head) :] != b""
    assert b'"data":["' in head
    assert "id" not in client.post(LATE, json=v2_json(inputs)).json()


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize("count", [3, 5000], ids=["small", "large"])
def test_a_body_may_be_compressed(client: httpx.Client, late: SampleModel, encoding: str, count: int) -> None:
    rows = make_flights(count, seed=14)
    compress = {"gzip": gzip.compress, "deflate": zlib.compress}[encoding]
    body, headers = v2_binary(columns(rows))
    response = client.post(LATE, content=compress(body), headers=headers | {"content-encoding": encoding})
    check_late(outputs(response), late, rows)


def test_what_a_model_is_and_has_done(client: httpx.Client) -> None:
    config = client.get("/v2/models/late/config").json()
    assert [each["data_type"] for each in config["input"]] == [
        "TYPE_STRING",
        "TYPE_STRING",
        "TYPE_FP32",
        "TYPE_FP32",
    ]
    assert config["max_batch_size"] > 0
    before = client.get("/v2/models/double/stats").json()["model_stats"][0]
    tensor = {"x": np.array([1, 2, 3], dtype=np.float32)}
    for _ in range(4):
        outputs(client.post("/v2/models/double/infer", json=v2_json(tensor)))
    after = client.get("/v2/models/double/stats").json()["model_stats"][0]
    assert after["inference_count"] - before["inference_count"] == 12
    seen, was = after["inference_stats"], before["inference_stats"]
    assert seen["success"]["count"] - was["success"]["count"] == 4
    assert seen["success"]["ns"] > was["success"]["ns"]
    named = [each["name"] for each in client.get("/v2/models/stats").json()["model_stats"]]
    assert {"double", "late", "linear"} <= set(named)


def test_a_body_may_come_in_chunks(client: httpx.Client, late: SampleModel) -> None:
    rows = make_flights(20, seed=14)
    whole = httpx.Request("POST", "http://unused", json=v2_json(columns(rows))).content
    pieces = (whole[start : start + 100] for start in range(0, len(whole), 100))
    check_late(outputs(client.post(LATE, content=pieces)), late, rows)


def test_metrics_are_in_prometheus_own_format(client: httpx.Client) -> None:
    def measured() -> dict[str, float]:
        response = client.get("/metrics")
        assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
        families = list(text_string_to_metric_families(response.text))
        assert len({family.name for family in families}) == len(families)
        of_late = [
            sample
            for family in families
            for sample in family.samples
            if sample.labels.get("model") == "late" and "le" not in sample.labels
        ]
        return {f"{each.name} {each.labels.get('outcome', '')}".strip(): each.value for each in of_late}

    client.post(LATE, json=v2_json(columns(make_flights(1, seed=15))))
    before = measured()
    rows = make_flights(7, seed=15)
    outputs(client.post(LATE, json=v2_json(columns(rows))))
    strange = v2_json(columns(rows))
    strange["inputs"][0]["data"][0] = "??"
    assert client.post(LATE, json=strange).status_code == 400
    after = measured()
    assert after["penstock_requests_total ok"] - before["penstock_requests_total ok"] == 1
    assert after["penstock_rows_total"] - before["penstock_rows_total"] == 7
    assert after["penstock_request_seconds_count"] - before["penstock_request_seconds_count"] == 1
    refused = "penstock_requests_total InvalidInput"
    assert after[refused] - before.get(refused, 0) == 1
    assert after["penstock_queue_rows"] == 0


def ask_number(client: httpx.Client, model: str, *values: float, **headers: str) -> httpx.Response:
    body = v2_json({"x": np.array(values, dtype=np.float32)})
    return client.post(f"/v2/models/{model}/infer", json=body, headers=headers)


def test_callables_answer(client: httpx.Client) -> None:
    assert outputs(ask_number(client, "double", 1, 2.5))["y"].tolist() == [2, 5]
    words = np.array(["straße", "", "x" * 10_000], dtype=object)
    body, headers = v2_binary({"x": words})
    given = outputs(client.post("/v2/models/text/infer", content=body, headers=headers))
    assert given["y"].tolist() == [word.upper() for word in words]
    assert client.get("/v2/models/double").json()["platform"] == "python"


def test_a_class_keeps_its_state_in_a_process_of_its_own(server: RunningServer, client: httpx.Client) -> None:
    body = v2_json({"x": np.array([1, 2])})
    first, second = (outputs(client.post("/v2/models/counter/infer", json=body)) for _ in range(2))
    assert second["calls"].tolist() == [first["calls"][0] + 1] * 2
    assert second["pid"][0] in {child.pid for child in server.children()}


@pytest.mark.parametrize(
    ("value", "status", "said"),
    [
        (101, 400, "input 'x' is above 100"),
        (-1, 500, "the model raised ValueError"),
        (1, 500, "rows"),
        (2, 500, "'z'"),
        (3, 500, "returned list, not a dict of outputs"),
        (4, 500, "output 'y'"),
    ],
)
def test_a_model_that_breaks_is_named_and_goes_on(
    client: httpx.Client, value: float, status: int, said: str
) -> None:
    response = ask_number(client, "picky", value)
    assert (response.status_code, list(response.json())) == (status, ["error"])
    assert said in response.json()["error"]
    assert "Traceback" not in response.text
    assert "line " not in response.text
    assert outputs(ask_number(client, "picky", 50))["y"].tolist() == [50]


def test_one_callers_refused_row_is_no_other_callers_concern(server: RunningServer) -> None:
    def ask(value: float) -> httpx.Response:
        with server.client() as client:
            return ask_number(client, "picky", value)

    values = [50, 101, 51, 102] * 8
    with ThreadPoolExecutor(CALLERS) as callers:
        for value, response in zip(values, callers.map(ask, values), strict=True):
            if value > 100:
                assert response.status_code == 400
            else:
                assert outputs(response)["y"].tolist() == [value]


def test_what_a_model_prints_does_not_reach_the_callers(server: RunningServer, client: httpx.Client) -> None:
    assert outputs(ask_number(client, "picky", 5))["y"].tolist() == [5]


@pytest.mark.parametrize("model", ["slow", "sleepy"])
def test_a_slow_model_does_not_hold_up_the_others(
    server: RunningServer, client: httpx.Client, model: str
) -> None:
    def ask_slow() -> httpx.Response:
        with server.client() as own:
            return ask_number(own, model, 25)

    enough = server.folder / "enough"
    with ThreadPoolExecutor(1) as threads:
        answered = threads.submit(ask_slow)
        try:
            time.sleep(0.3)
            for _ in range(20):
                ask_number(client, "double", 1).raise_for_status()
                client.post(LATE, json=v2_json(columns(make_flights(1, seed=16)))).raise_for_status()
            assert not answered.done()
        finally:
            enough.touch()
        assert outputs(answered.result())["y"].tolist() == [25]
        enough.unlink()


@pytest.mark.parametrize("model", ["slow", "sleepy"])
def test_a_deadline_ends_the_waiting(client: httpx.Client, model: str) -> None:
    started_s = time.monotonic()
    late = ask_number(client, model, 6, **{"x-request-timeout-ms": "200"})
    assert late.status_code == 504
    assert "deadline" in late.json()["error"]
    assert time.monotonic() - started_s < 5
    recovered = ask_until_answered(client, model, 0)
    assert outputs(recovered)["y"].tolist() == [0]


def test_a_deadline_can_be_in_the_message(client: httpx.Client) -> None:
    body = v2_json({"x": np.array([6], dtype=np.float32)}, parameters={"timeout": 200_000})
    assert client.post("/v2/models/sleepy/infer", json=body).status_code == 504
    ask_until_answered(client, "sleepy", 0)


def ask_until_answered(client: httpx.Client, model: str, value: float) -> httpx.Response:
    """Asks until the model's process is back; until then the server says that, and when to ask again."""
    deadline_s = time.monotonic() + 40
    while time.monotonic() < deadline_s:
        response = ask_number(client, model, value)
        if response.status_code == 200:
            return response
        assert response.status_code in (500, 503, 504), response.text
        assert list(response.json()) == ["error"]
        time.sleep(0.1)
    raise AssertionError(f"{model} did not come back: {response.text}")


def test_a_killed_model_comes_back_and_the_server_stays(server: RunningServer, client: httpx.Client) -> None:
    body = v2_json({"x": np.array([1])})
    pid = int(outputs(client.post("/v2/models/counter/infer", json=body))["pid"][0])
    (victim,) = [child for child in server.children() if child.pid == pid]
    victim.kill()
    deadline_s = time.monotonic() + 10
    while victim.is_running() and victim.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    assert outputs(ask_number(client, "double", 3))["y"].tolist() == [6]
    given = outputs(client.post("/v2/models/counter/infer", json=body))
    assert given["pid"][0] != pid
    assert given["calls"][0] == 1
    assert client.get("/v2/health/live").status_code == 200


def test_rows_of_any_number_are_answered(client: httpx.Client) -> None:
    for rows in (1, 1023, 1024, 1025, 5000):
        body, headers = v2_binary({"x": np.arange(rows, dtype=np.float32)})
        given = outputs(client.post("/v2/models/double/infer", content=body, headers=headers))
        assert np.array_equal(given["y"], 2 * np.arange(rows))
