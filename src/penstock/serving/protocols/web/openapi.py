"""The OpenAPI 3.1 document of what is served. Source: the OpenAPI Specification, version 3.1.1."""

from typing import Any

import msgspec

from penstock.core.signature import TensorSpec
from penstock.serving.deployment import Deployment
from penstock.serving.plane import DataPlane
from penstock.serving.protocols.web.examples import example_inputs, invocation_examples, v2_example
from penstock.serving.protocols.web.schemas import (
    Schema,
    invocation_answer,
    invocation_request,
    v2_answer,
    v2_request,
)

__all__ = ["build_document"]

_ERRORS = {
    "400": "What was sent does not fit the model's signature; `fields` has the mistakes in rows.",
    "404": "No such model or version is served.",
    "413": "The body passes the limit.",
    "415": "The content type or encoding is not understood.",
    "500": "The model failed on these rows.",
    "503": "The server does not take this on now; Retry-After says when to try again.",
    "504": "The deadline passed before the model answered.",
}
_TIMEOUT = {
    "name": "x-request-timeout-ms",
    "in": "header",
    "required": False,
    "description": "How long the answer is of use, in milliseconds.",
    "schema": {"type": "number", "exclusiveMinimum": 0},
}
_PREFER = {
    "name": "prefer",
    "in": "header",
    "required": False,
    "description": "`respond-async`: it is to be a job, acknowledged now and answered later. Not for batches.",
    "schema": {"type": "string"},
}
_JOB_ID = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
_JOB_SCHEMA: Schema = {
    "type": "object",
    "required": ["id", "status", "model", "attempts", "created_at"],
    "properties": {
        "id": {"type": "string"},
        "status": {"enum": ["queued", "running", "done", "failed", "cancelled", "expired"]},
        "model": {"type": "string"},
        "attempts": {"type": "integer", "minimum": 0},
        "created_at": {"type": "string", "format": "date-time"},
        "started_at": {"type": "string", "format": "date-time"},
        "finished_at": {"type": "string", "format": "date-time"},
        "expires_at": {"type": "string", "format": "date-time"},
        "cancel_asked": {"type": "boolean"},
        "error": {"type": "string", "description": "Why it failed, or why its last attempt did."},
        "webhook": {"type": "object", "description": "What became of telling it."},
    },
}
_ERROR_SCHEMA: Schema = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {"type": "string", "description": "What is wrong, where, and what to do about it."},
        "fields": {
            "type": "array",
            "description": "The first mistakes in rows.",
            "items": {
                "type": "object",
                "required": ["row", "column", "expected", "got"],
                "properties": {
                    "row": {"type": ["integer", "null"], "description": "From 0; null: the whole column."},
                    "column": {"type": "string"},
                    "expected": {"type": "string"},
                    "got": {"type": "string"},
                },
            },
        },
    },
}
_PARAMETERS_SCHEMA: Schema = {
    "type": "object",
    "properties": {
        "timeout": {"type": "integer", "minimum": 0, "description": "Microseconds; 0: none."},
        "binary_data_output": {"type": "boolean", "const": False},
    },
    "additionalProperties": False,
}


def build_document(plane: DataPlane, *, version: str) -> bytes:
    """The document as JSON: paths for each model, concrete schemas and requests that its default version
    answers.
    """
    paths: dict[str, Any] = {}
    schemas: dict[str, Schema] = {
        "Error": _ERROR_SCHEMA,
        "Job": _JOB_SCHEMA,
        "V2Parameters": _PARAMETERS_SCHEMA,
    }
    tags = []
    for model in plane.models():
        deployment = plane.default(model)
        assert deployment is not None, "models() are those with a default"
        tags.append({"name": model, "description": _described(deployment)})
        schemas |= _schemas(deployment)
        paths |= _paths(deployment)
    paths |= _server_paths() | _job_paths()
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": "Penstock",
            "version": version,
            "description": "The models that this server answers for. Try them at [/docs](/docs).",
        },
        "servers": [{"url": "/"}],
        "tags": [
            *tags,
            {"name": "jobs", "description": "Requests that are answered later."},
            {"name": "server", "description": "Health and measures."},
        ],
        "paths": paths,
        "components": {"schemas": schemas, "responses": {code: _error(said) for code, said in _ERRORS.items()}},
    }
    return msgspec.json.encode(document)


def _schemas(deployment: Deployment) -> dict[str, Schema]:
    signature = deployment.signature
    model = deployment.model
    return {
        f"{model}.InvocationRequest": invocation_request(signature),
        f"{model}.InvocationAnswer": invocation_answer(signature),
        f"{model}.InferRequest": v2_request(signature),
        f"{model}.InferAnswer": v2_answer(signature),
    }


def _paths(deployment: Deployment) -> dict[str, Any]:
    model = deployment.model
    signature = deployment.signature
    inputs = example_inputs(signature, deployment.example)
    rows = {name: {"value": value} for name, value in invocation_examples(signature, inputs).items()}
    tensors = {"tensors": {"value": v2_example(signature, inputs)}}
    invocations = {
        "operationId": f"{model}.invocations",
        "summary": f"Predict with {model} from rows",
        "description": "Rows in MLflow's scoring form. Also takes batches, as NDJSON or Arrow streams.",
        **_operation(model, "Invocation", rows, headers=True),
        "x-penstock-version": deployment.version,
        "x-penstock-platform": deployment.platform,
        "x-penstock-inputs": [_tensor(spec) for spec in signature.inputs],
        "x-penstock-outputs": [_tensor(spec) for spec in signature.outputs],
    }
    infer = {
        "operationId": f"{model}.infer",
        "summary": f"Predict with {model} from tensors",
        "description": "The Open Inference Protocol (V2). Tensors may also come and go in binary.",
        **_operation(model, "Infer", tensors, headers=False),
    }
    return {
        f"/models/{model}/invocations": {"post": invocations},
        f"/v2/models/{model}/infer": {"post": infer},
        f"/v2/models/{model}": {
            "get": _simple(f"{model}.metadata", f"What {model} takes and gives", model, ("404",))
        },
    }


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    """A tensor as the page to try it on shows it."""
    return {
        "name": spec.name,
        "datatype": spec.datatype.value,
        "shape": spec.shape,
        "missing": spec.nan,
        "categories": spec.categories,
    }


def _operation(model: str, kind: str, examples: dict[str, Any], *, headers: bool) -> dict[str, Any]:
    answered: dict[str, Any] = {
        "description": "The predictions.",
        "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{model}.{kind}Answer"}}},
    }
    if headers:
        answered["headers"] = {
            "x-penstock-model": {"description": "The model that answered.", "schema": {"type": "string"}},
            "x-penstock-version": {"description": "Its version.", "schema": {"type": "string"}},
        }
    return {
        "tags": [model],
        "parameters": [_TIMEOUT, _PREFER],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"$ref": f"#/components/schemas/{model}.{kind}Request"},
                    "examples": examples,
                }
            },
        },
        "responses": {
            "200": answered,
            "202": _job("It is a job now, or was one already; `location` is where it is looked at."),
            **{code: {"$ref": f"#/components/responses/{code}"} for code in _ERRORS},
        },
    }


def _server_paths() -> dict[str, Any]:
    return {
        "/v2": {"get": _simple("server.metadata", "Who answers", "server")},
        "/v2/health/live": {"get": _simple("server.live", "Whether the process answers", "server")},
        "/v2/health/ready": {
            "get": _simple("server.ready", "Whether every model can answer", "server", ("503",))
        },
        "/ping": {
            "get": _simple("server.ping", "Whether every model can answer, as MLflow asks", "server", ("503",))
        },
        "/metrics": {
            "get": {
                "operationId": "server.metrics",
                "summary": "Measures, as Prometheus reads them",
                "tags": ["server"],
                "responses": {
                    "200": {
                        "description": "The measures.",
                        "content": {"text/plain": {"schema": {"type": "string"}}},
                    }
                },
            }
        },
    }


def _job_paths() -> dict[str, Any]:
    unknown = {"404": {"$ref": "#/components/responses/404"}}
    status = {
        "operationId": "jobs.status",
        "summary": "How a job is",
        "tags": ["jobs"],
        "parameters": [_JOB_ID],
        "responses": {"200": _job("The job."), **unknown},
    }
    cancel = {
        "operationId": "jobs.cancel",
        "summary": "A job is not wanted any more",
        "tags": ["jobs"],
        "parameters": [_JOB_ID],
        "responses": {
            "200": _job("It is cancelled."),
            "202": _job("It runs, and is cancelled unless it ends before that is noticed."),
            "409": _error("It has ended otherwise."),
            **unknown,
        },
    }
    result = {
        "operationId": "jobs.result",
        "summary": "The answer that the request would have had",
        "tags": ["jobs"],
        "parameters": [_JOB_ID],
        "responses": {
            "200": {"description": "The predictions, in the form in which they were asked for."},
            "409": _error("It is not finished."),
            "410": _error("It was cancelled, or has expired."),
            "500": _error("It failed."),
            **unknown,
        },
    }
    return {
        "/v2/jobs/{id}": {"get": status, "delete": cancel},
        "/v2/jobs/{id}/result": {"get": result},
    }


def _job(said: str) -> dict[str, Any]:
    return {
        "description": said,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Job"}}},
    }


def _simple(operation: str, summary: str, tag: str, errors: tuple[str, ...] = ()) -> dict[str, Any]:
    """A GET that answers with an object. 503 has the object too: it says what is not ready."""
    answer = {"content": {"application/json": {"schema": {"type": "object"}}}}
    responses: dict[str, Any] = {"200": {"description": "Yes.", **answer}}
    for code in errors:
        responses[code] = (
            {"description": "Not ready.", **answer}
            if code == "503"
            else {"$ref": f"#/components/responses/{code}"}
        )
    return {"operationId": operation, "summary": summary, "tags": [tag], "responses": responses}


def _error(said: str) -> dict[str, Any]:
    return {
        "description": said,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
    }


def _described(deployment: Deployment) -> str:
    inputs, outputs = (
        ", ".join(f"{spec.name} {spec.describe()}" for spec in specs)
        for specs in (deployment.signature.inputs, deployment.signature.outputs)
    )
    return f"Version {deployment.version} on {deployment.platform}. Takes {inputs}; gives {outputs}."
