"""Invocations against the real HTTP server: paths, headers, statuses; and MLflow's form over a pushed model."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import polars as pl
import pytest
from plane_server import MODELS, PlaneServer, plane_server
from running_server import RunningServer
from sample_models import TEXT, SampleModel

FARES = [
    {"distance": 1.5, "carrier": "AA", "stops": 1},
    {"carrier": "Zürich Air", "stops": 0, "distance": None},
]


@pytest.fixture(scope="module")
def small() -> Iterator[PlaneServer]:
    with plane_server(*MODELS) as running:
        running.add("sum", "2")
        yield running


@pytest.fixture
def http(small: PlaneServer) -> Iterator[httpx.Client]:
    with small.client() as opened:
        yield opened


def test_records_are_answered_as_records(http: httpx.Client) -> None:
    response = http.post("/models/fare/invocations", json={"dataframe_records": FARES})
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.json() == {
        "predictions": [
            {"fare": 104.0, "label": "AA!", "parts": [1.5, 104.0]},
            {"fare": None, "label": "Zürich Air!", "parts": [None, None]},
        ]
    }


def test_columns_are_answered_as_columns(http: httpx.Client) -> None:
    columns = {name: [row[name] for row in FARES] for name in FARES[0]}
    response = http.post("/models/fare/invocations", json={"inputs": columns})
    assert response.json() == {
        "predictions": {
            "fare": [104.0, None],
            "label": ["AA!", "Zürich Air!"],
            "parts": [[1.5, 104.0], [None, None]],
        }
    }


def test_the_version_that_answered_is_named(http: httpx.Client) -> None:
    body = {"instances": [[1, 2, 3]]}
    default = http.post("/models/sum/invocations", json=body)
    assert (default.headers["x-penstock-model"], default.headers["x-penstock-version"]) == ("sum", "1")
    second = http.post("/models/sum/versions/2/invocations", json=body)
    assert second.headers["x-penstock-version"] == "2"
    assert default.json() == second.json() == {"predictions": [6.0]}


def test_a_route_that_moves_is_followed() -> None:
    with plane_server("sum") as server, server.client() as client:
        server.add("sum", "2")
        seen = []
        for version in ("1", "2", "1"):
            server.loop.call_soon_threadsafe(server.plane.route, "sum", version)
            answer = client.post("/models/sum/invocations", json={"instances": [[1, 2, 3]]})
            seen.append(answer.headers["x-penstock-version"])
        assert seen == ["1", "2", "1"]


def test_the_root_is_the_only_model() -> None:
    with plane_server("sum") as server, server.client() as client:
        response = client.post("/invocations", json={"inputs": [[1, 2, 3], [4, 5, 6]]})
        assert response.json() == {"predictions": [6.0, 15.0]}
        assert client.post("/invocations", json={"inputs": [[1, 2, 3]]}).status_code == 200
        server.add("picky")
        response = client.post("/invocations", json={"inputs": [[1, 2, 3]]})
        assert response.status_code == 404
        assert "/models/sum/invocations" in response.json()["error"]


def test_health_as_mlflow_asks(small: PlaneServer, http: httpx.Client) -> None:
    for path in ("/ping", "/health", "/models/sum/ping", "/models/sum/versions/2/ping"):
        response = http.get(path)
        assert (response.status_code, response.json()["ready"]) == (200, True)
    assert http.get("/version").text == "1.2.3"
    small.plane.want(["missing"])
    try:
        assert http.get("/ping").status_code == 503
    finally:
        small.plane.want([])


def test_fields_at_fault_are_listed(http: httpx.Client) -> None:
    rows = [*FARES, {"distance": "far", "carrier": "QQ", "stops": 70_000}]
    response = http.post("/models/fare/invocations", json={"dataframe_records": rows})
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/json"
    answer = response.json()
    assert answer["error"].startswith("row 2, 'distance': expected a number, got 'far' (and 2 more)")
    assert answer["fields"] == [
        {"row": 2, "column": "distance", "expected": "a number", "got": "'far'"},
        {"row": 2, "column": "carrier", "expected": "one of 'AA', 'B6', 'Zürich Air'", "got": "'QQ'"},
        {"row": 2, "column": "stops", "expected": "an integer from -32768 to 32767", "got": "70000"},
    ]


def test_values_without_a_place_are_fields_too(http: httpx.Client) -> None:
    """The typed decoder lets them through; the signature does not."""
    row = FARES[0] | {"carrier": "QQ"}
    response = http.post("/models/fare/invocations", json={"dataframe_records": [FARES[0], row]})
    assert [(each["row"], each["column"]) for each in response.json()["fields"]] == [(1, "carrier")]


def test_an_error_of_the_model_has_no_fields(http: httpx.Client) -> None:
    response = http.post("/models/picky/invocations", json={"instances": [101]})
    assert (response.status_code, response.json()) == (400, {"error": "x is above 100"})
    response = http.post("/models/picky/invocations", json={"instances": [-1]})
    assert response.status_code == 500
    assert set(response.json()) == {"error"}


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ("APPLICATION/JSON", 200),
        ("application/json; charset=utf-16", 415),
        ("text/csv", 415),
        ("application/x-www-form-urlencoded", 415),
    ],
)
def test_content_types(http: httpx.Client, content_type: str, status: int) -> None:
    response = http.post(
        "/models/sum/invocations",
        content=json.dumps({"instances": [[1, 2, 3]]}),
        headers={"content-type": content_type},
    )
    assert response.status_code == status, response.text
    if status == 415:
        assert "application/json" in response.json()["error"] or "UTF-8" in response.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/models/sum/invocations", 405),
        ("GET", "/models/nosuch/invocations", 404),
        ("POST", "/models/sum/versions/9/invocations", 404),
        ("POST", "/models/sum/nosuch", 404),
        ("POST", "/models/sum", 404),
        ("POST", "/ping", 405),
        ("POST", "/openapi.json", 405),
    ],
)
def test_paths_and_methods(http: httpx.Client, method: str, path: str, status: int) -> None:
    response = http.request(method, path)
    assert response.status_code == status
    assert response.json()["error"]


def test_the_deadline_of_the_header_is_kept(small: PlaneServer, http: httpx.Client) -> None:
    body = {"instances": [1]}
    runtime = small.runtimes["picky", "1"]
    runtime.gate.clear()
    try:
        response = http.post("/models/picky/invocations", json=body, headers={"x-request-timeout-ms": "40"})
    finally:
        runtime.gate.set()
    assert response.status_code == 504
    response = http.post("/models/picky/invocations", json=body, headers={"x-request-timeout-ms": "soon"})
    assert response.status_code == 400
    assert "x-request-timeout-ms" in response.json()["error"]


def body_of(form: str, rows: pl.DataFrame) -> dict[str, Any]:
    """What MLflow's client makes of a frame: pandas' orientations `split` and `records`, and `list`."""
    match form:
        case "dataframe_split":
            data = {
                "index": list(range(rows.height)),
                "columns": rows.columns,
                "data": [list(row) for row in rows.rows()],
            }
            return {form: data}
        case "dataframe_records" | "instances":
            return {form: rows.to_dicts()}
        case _:
            return {form: rows.to_dict(as_series=False)}


@pytest.mark.parametrize("form", ["dataframe_split", "dataframe_records", "instances", "inputs"])
def test_a_pipeline_answers_as_its_own_library(
    server: RunningServer, client: httpx.Client, late: SampleModel, form: str
) -> None:
    rows = late.rows.head(20)
    response = client.post("/models/late/invocations", json=body_of(form, rows))
    assert response.status_code == 200, response.text
    predictions = response.json()["predictions"]
    labels = predictions["label"] if form == "inputs" else [each["label"] for each in predictions]
    assert labels == late.native.predict(rows).tolist()


def test_a_matrix_answers_as_its_own_library(
    server: RunningServer, client: httpx.Client, linear: SampleModel
) -> None:
    rows = linear.rows[:20]
    names = [f"c{index}" for index in range(rows.shape[1])]
    expected = linear.native.predict(rows).tolist()
    for body in (
        {"instances": rows.tolist()},
        {"inputs": rows.tolist()},
        {"dataframe_split": {"columns": names, "data": rows.tolist()}},
        {"dataframe_records": [dict(zip(names, row, strict=True)) for row in rows.tolist()]},
    ):
        response = client.post("/models/linear/invocations", json=body)
        assert response.status_code == 200, response.text
        assert response.headers["x-penstock-version"] == "2"
        predictions = response.json()["predictions"]
        labels = (
            predictions["label"] if isinstance(predictions, dict) else [each["label"] for each in predictions]
        )
        assert labels == expected
        assert np.shape(labels) == (20,)


def test_an_unknown_category_of_a_real_model_is_named(client: httpx.Client, late: SampleModel) -> None:
    row = late.rows.head(1).to_dicts()[0] | {TEXT[0]: "QQ"}
    response = client.post("/models/late/invocations", json={"dataframe_records": [row]})
    assert response.status_code == 400
    assert [each["column"] for each in response.json()["fields"]] == [TEXT[0]]
