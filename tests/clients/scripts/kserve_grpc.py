"""Every call of KServe's InferenceGRPCClient against a running server."""

import asyncio

import grpc
from checks import main, raised_later
from kserve import InferenceGRPCClient, InferInput, InferRequest
from kserve.protocol.infer_type import RequestedOutput
from kserve.utils.numpy_codec import from_np_dtype


def connect(facts):
    return InferenceGRPCClient(f"{facts.host}:{facts.grpc_port}")


def asked(case, *, raw, **named):
    """With raw contents, or with the typed ones that lists go as."""
    inputs = []
    for name, array in case.inputs.items():
        tensor = InferInput(name, list(array.shape), from_np_dtype(array.dtype))
        tensor.set_data_from_numpy(array, binary_data=raw)
        inputs.append(tensor)
    return InferRequest(case.model, inputs, **named)


def number(x, model="moody", datatype="FP32"):
    return InferRequest(model, [InferInput("x", [1], datatype, [x])])


def agree(case, response):
    assert response.model_name == case.model
    for name in case.outputs:
        case.agrees(name, response.get_output_by_name(name).as_numpy())


async def failure(code, awaitable):
    error = await raised_later(grpc.RpcError, awaitable)
    assert error.code() is code, error
    assert "Traceback" not in error.details()
    return error.details()


async def check_health(facts):
    async with connect(facts) as client:
        assert await client.is_server_live() is True
        assert await client.is_server_ready() is True
        assert await client.is_model_ready("linear") is True


async def check_raw_contents(facts):
    async with connect(facts) as client:
        for name in ("linear", "late", "types", "wide", "half"):
            case = facts.case(name)
            agree(case, await client.infer(asked(case, raw=True)))


async def check_typed_contents(facts):
    async with connect(facts) as client:
        for name in ("linear", "late", "types_json"):
            case = facts.case(name)
            agree(case, await client.infer(asked(case, raw=False)))


async def check_versions_ids_and_outputs(facts):
    case = facts.case("late")
    async with connect(facts) as client:
        request = asked(case, raw=True, request_id="seven", request_outputs=[RequestedOutput("label")])
        response = await client.infer(request, headers=(("x-tenant", "a"),))
        assert (response.id, len(response.outputs)) == ("seven", 1)
        case.agrees("label", response.get_output_by_name("label").as_numpy())
        linear = facts.case("linear")
        response = await client.infer(asked(linear, raw=True, model_version="2", parameters={"tenant": "a"}))
        assert response.model_version == "2"
        agree(linear, response)


async def check_errors(facts):
    case = facts.case("late")
    code = grpc.StatusCode
    async with connect(facts) as client:
        assert "nothing" in await failure(code.NOT_FOUND, client.infer(number(1, model="nothing")))
        assert "above 100" in await failure(code.INVALID_ARGUMENT, client.infer(number(101)))
        await failure(code.INTERNAL, client.infer(number(-1)))
        assert "FP32" in await failure(code.INVALID_ARGUMENT, client.infer(number(1, datatype="INT64")))
        await failure(code.DEADLINE_EXCEEDED, client.infer(number(0.4), timeout=0.02))
        mixed = asked(case, raw=True)
        mixed.inputs[0].set_data_from_numpy(case.inputs["carrier"], binary_data=False)
        assert "raw_input_contents" in await failure(code.INVALID_ARGUMENT, client.infer(mixed))


async def check_many_at_once(facts):
    async def ask(client, index):
        case = facts.case(f"row{index % 8}")
        agree(case, await client.infer(asked(case, raw=bool(index % 2))))

    async with connect(facts) as client:
        await asyncio.gather(*(ask(client, index) for index in range(64)))


if __name__ == "__main__":
    main(__name__)
