"""Every call of KServe's InferenceRESTClient, in the V2 protocol, against a running server."""

import asyncio

import httpx
import numpy as np
from checks import main, raised_later
from kserve import InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig
from kserve.protocol.infer_type import RequestedOutput
from kserve.utils.numpy_codec import from_np_dtype


def connect():
    return InferenceRESTClient(RESTConfig(protocol="v2"))


def asked(case, *, binary, parameters=None, outputs=None, request_id=None):
    inputs = []
    for name, array in case.inputs.items():
        tensor = InferInput(name, list(array.shape), from_np_dtype(array.dtype))
        tensor.set_data_from_numpy(array, binary_data=binary)
        inputs.append(tensor)
    return InferRequest(
        case.model, inputs, request_id=request_id, parameters=parameters, request_outputs=outputs
    )


def number(x, name="x", datatype="FP32"):
    return InferRequest("moody", [InferInput(name, [1], datatype, [x])])


def agree(case, response):
    assert response.model_name == case.model
    for name in case.outputs:
        case.agrees(name, response.get_output_by_name(name).as_numpy())


async def failure(status, awaitable):
    error = await raised_later(httpx.HTTPStatusError, awaitable)
    assert error.response.status_code == status, error
    said = error.response.json()["error"]
    assert str(error).startswith(said), "the client takes the text of what is exactly application/json"
    assert "Traceback" not in said
    return said


async def check_health(facts):
    async with connect() as client:
        assert await client.is_server_live(facts.url) is True
        assert await client.is_server_ready(facts.url) is True
        assert await client.is_model_ready(facts.url, "linear") is True
        assert await client.is_model_ready(facts.url, "linear/versions/2") is True
        assert await client.is_model_ready(facts.url, "nothing") is False
        assert await client.is_server_live(facts.url + "/") is True


async def check_json(facts):
    async with connect() as client:
        for name in ("linear", "late", "types_json"):
            case = facts.case(name)
            agree(case, await client.infer(facts.url, asked(case, binary=False), model_name=case.model))


async def check_binary(facts):
    async with connect() as client:
        for name in ("linear", "late", "types_json"):
            case = facts.case(name)
            for wanted in (True, False):
                request = asked(case, binary=True, parameters={"binary_data_output": wanted})
                told = {}
                response = await client.infer(facts.url, request, model_name=case.model, response_headers=told)
                assert ("inference-header-content-length" in told) is wanted
                agree(case, response)


async def check_half_floats(facts):
    """Only in binary, says the client."""
    case = facts.case("half")
    async with connect() as client:
        outputs = [RequestedOutput("y", {"binary_data": True})]
        agree(case, await client.infer(facts.url, asked(case, binary=True, outputs=outputs), model_name="half"))
        agree(case, await client.infer(facts.url, asked(case, binary=True), model_name="half"))


async def check_nested_lists(facts):
    case = facts.case("linear")
    ((name, matrix),) = case.inputs.items()
    request = InferRequest("linear", [InferInput(name, list(matrix.shape), "FP32", matrix.tolist())])
    async with connect() as client:
        agree(case, await client.infer(facts.url, request, model_name="linear"))


async def check_plain_dictionaries(facts):
    body = {"inputs": [{"name": "x", "shape": [2], "datatype": "FP32", "data": [0, 0]}], "id": "seven"}
    async with connect() as client:
        response = await client.infer(facts.url, body, model_name="moody", headers={"x-tenant": "a"})
        assert response.id == "seven"
        assert response.get_output_by_name("y").as_numpy().tolist() == [0, 0]


async def check_zero_size(facts):
    """It sends null as data, and a size of 0, for a tensor without elements."""
    case = facts.case("empty")
    async with connect() as client:
        for binary in (True, False):
            agree(case, await client.infer(facts.url, asked(case, binary=binary), model_name=case.model))


async def check_versions_and_ids(facts):
    case = facts.case("linear")
    async with connect() as client:
        request = asked(case, binary=True, request_id="Zürich-7")
        response = await client.infer(facts.url, request, model_name="linear/versions/2")
        assert response.id == "Zürich-7"
        agree(case, response)
        request = asked(case, binary=True)
        assert "77" in await failure(404, client.infer(facts.url, request, model_name="linear/versions/77"))


async def check_errors(facts):
    case = facts.case("late")
    async with connect() as client:
        assert "nothing" in await failure(404, client.infer(facts.url, number(1), model_name="nothing"))
        assert "above 100" in await failure(400, client.infer(facts.url, number(101), model_name="moody"))
        await failure(500, client.infer(facts.url, number(-1), model_name="moody"))
        wrong = number(1, datatype="INT64")
        assert "FP32" in await failure(400, client.infer(facts.url, wrong, model_name="moody"))
        unknown = asked(case, binary=False, outputs=[RequestedOutput("nothing")])
        assert "nothing" in await failure(400, client.infer(facts.url, unknown, model_name="late"))
        late = {"x-request-timeout-ms": "20"}
        await failure(504, client.infer(facts.url, number(0.4), model_name="moody", headers=late))


async def check_another_protocol(facts):
    """The first version of KServe's protocol is not spoken here, and that is what is said."""
    async with InferenceRESTClient(RESTConfig(protocol="v1")) as client:
        await failure(404, client.infer(facts.url, {"instances": [[1.0]]}, model_name="linear"))


async def check_many_at_once(facts):
    async def ask(client, index):
        case = facts.case(f"row{index % 8}")
        agree(case, await client.infer(facts.url, asked(case, binary=bool(index % 2)), model_name="linear"))

    async with connect() as client:
        await asyncio.gather(*(ask(client, index) for index in range(64)))


async def check_missing_values(facts):
    """NaN in a list goes as null."""
    request = InferRequest("moody", [InferInput("x", [2], "FP32", [1.5, float("nan")])])
    async with connect() as client:
        response = await client.infer(facts.url, request, model_name="moody")
        filled = response.get_output_by_name("y").as_numpy()
        assert filled.dtype == np.float32
        assert filled.tolist() == [1.5, -1]


if __name__ == "__main__":
    main(__name__)
