"""The OpenAPI document: valid, true, and made anew when what is served changes."""

from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema
import numpy as np
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from plane_server import MODELS, PlaneServer, plane_server
from running_server import RunningServer

EXAMPLE = {
    "distance": np.array([0.1, np.nan, 3.0], dtype=np.float32),
    "carrier": np.array(["AA", "Zürich Air", "B6"], dtype=object),
    "stops": np.array([0, 2, 1], dtype=np.int16),
}


@pytest.fixture(scope="module")
def small() -> Iterator[PlaneServer]:
    with plane_server(*(name for name in MODELS if name != "fare")) as running:
        running.add("fare", "7", example=EXAMPLE)
        yield running


@pytest.fixture(scope="module")
def document(small: PlaneServer) -> Any:
    response = httpx.get(f"{small.url}/openapi.json", trust_env=False)
    assert response.headers["content-type"] == "application/json"
    return response.json()


def resolved(document: Any, schema: Any) -> Any:
    """The schema with the document's components beside it, so that its references are found."""
    return {**schema, "components": document["components"]}


def examples(document: Any) -> Iterator[tuple[str, Any, Any]]:
    """Path, operation and body of every example."""
    for path, item in document["paths"].items():
        for operation in item.values():
            content = operation.get("requestBody", {}).get("content", {})
            for example in content.get("application/json", {}).get("examples", {}).values():
                yield path, operation, example["value"]


def check_examples(document: Any, client: httpx.Client) -> int:
    """Every example fits its own schema and is answered, and the answer fits its schema; their number."""
    count = 0
    for path, operation, body in examples(document):
        content = operation["requestBody"]["content"]["application/json"]
        jsonschema.validate(body, resolved(document, content["schema"]), jsonschema.Draft202012Validator)
        response = client.post(path, json=body)
        assert response.status_code == 200, (path, body, response.text)
        answered = operation["responses"]["200"]["content"]["application/json"]["schema"]
        jsonschema.validate(response.json(), resolved(document, answered), jsonschema.Draft202012Validator)
        count += 1
    return count


def test_it_is_openapi(document: Any) -> None:
    assert document["openapi"].startswith("3.1.")
    OpenAPIV31SpecValidator(document).validate()


def test_every_example_is_answered(document: Any, small: PlaneServer) -> None:
    with small.client() as client:
        assert check_examples(document, client) == 5 * len(MODELS)


def test_examples_of_pushed_models_are_answered(server: RunningServer, client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    OpenAPIV31SpecValidator(document).validate()
    models = {"late", "linear", "double", "text", "counter"}  # the others there fail or take long on purpose
    document["paths"] = {
        path: item for path, item in document["paths"].items() if models & set(path.split("/"))
    }
    assert check_examples(document, client) == 5 * len(models)


def test_examples_are_real_rows(document: Any) -> None:
    content = document["paths"]["/models/fare/invocations"]["post"]["requestBody"]["content"][
        "application/json"
    ]
    assert content["examples"]["dataframe_records"]["value"] == {
        "dataframe_records": [
            {"distance": 0.1, "carrier": "AA", "stops": 0},
            {"distance": None, "carrier": "Zürich Air", "stops": 2},
        ]
    }


@pytest.mark.parametrize(
    ("path", "body", "fits"),
    [
        ("/models/fare/invocations", {"instances": [[1.5, "AA", 2]]}, True),
        ("/models/fare/invocations", {"instances": [[None, "AA", 2]]}, True),
        ("/models/fare/invocations", {"instances": [[1.5, "QQ", 2]]}, False),
        ("/models/fare/invocations", {"instances": [[1.5, "AA", 2, 3]]}, False),
        ("/models/fare/invocations", {"instances": [[1.5, "AA", None]]}, False),
        ("/models/fare/invocations", {"instances": [[1.5, "AA", 40_000]]}, False),
        ("/models/fare/invocations", {"inputs": {"distance": [1], "carrier": ["AA"]}}, False),
        (
            "/models/fare/invocations",
            {"dataframe_records": [{"distance": 1, "carrier": "AA", "stops": 1}]},
            True,
        ),
        ("/models/fare/invocations", {"dataframe_records": []}, False),
        ("/models/fare/invocations", {"rows": []}, False),
        ("/models/fare/invocations", {"instances": [[1, "AA", 2]], "inputs": {}}, False),
        ("/models/fare/invocations", {"instances": [[1, "AA", 2]], "params": {}}, True),
        ("/models/fare/invocations", {"instances": [[1, "AA", 2]], "params": {"a": 1}}, True),
        ("/models/sum/invocations", {"instances": [[1, 2, 3]]}, True),
        ("/models/sum/invocations", {"instances": [[1, 2]]}, False),
        ("/models/sum/invocations", {"inputs": {"x": [[1, 2, 3]]}}, True),
        ("/models/sum/invocations", {"dataframe_records": [{"a": 1, "b": 2, "c": 3}]}, True),
        ("/models/sum/invocations", {"dataframe_records": [{"a": 1, "b": 2}]}, False),
        ("/models/image/invocations", {"instances": [[[1, 2], [3, 256]]]}, False),
        ("/models/picky/invocations", {"instances": [1, 2]}, True),
        ("/models/picky/invocations", {"instances": [1.5]}, False),
    ],
)
def test_the_schema_says_what_the_server_does(
    document: Any, small: PlaneServer, path: str, body: Any, fits: bool
) -> None:
    schema = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    validator = jsonschema.Draft202012Validator(resolved(document, schema))
    assert validator.is_valid(body) is fits
    with small.client() as client:
        response = client.post(path, json=body)
    assert (response.status_code == 200) is fits, response.text
    if not fits:
        assert response.status_code == 400
        error = resolved(document, {"$ref": "#/components/schemas/Error"})
        jsonschema.validate(response.json(), error, jsonschema.Draft202012Validator)


def test_it_follows_what_is_served() -> None:
    def paths(client: httpx.Client) -> set[str]:
        return {path for path in client.get("/openapi.json").json()["paths"] if path.endswith("/invocations")}

    with plane_server("sum") as server, server.client() as client:
        assert paths(client) == {"/models/sum/invocations"}
        server.add("picky")
        assert paths(client) == {"/models/sum/invocations", "/models/picky/invocations"}
        server.remove("sum", "1")
        assert paths(client) == {"/models/picky/invocations"}


def test_nothing_served_is_a_document_too() -> None:
    with plane_server() as server, server.client() as client:
        OpenAPIV31SpecValidator(client.get("/openapi.json").json()).validate()
