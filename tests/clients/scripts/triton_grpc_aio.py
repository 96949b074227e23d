"""Every call of tritonclient.grpc.aio against a running server."""

import asyncio

import tritonclient.grpc.aio as triton
from checks import main, raised_later
from triton_grpc import agree, given, number
from tritonclient.utils import InferenceServerException


def connect(facts):
    return triton.InferenceServerClient(f"{facts.host}:{facts.grpc_port}")


async def failure(status, awaitable):
    error = await raised_later(InferenceServerException, awaitable)
    assert error.status() == f"StatusCode.{status}", (error.status(), error.message())
    assert "Traceback" not in error.message()
    return error.message()


async def check_what_it_serves(facts):
    async with connect(facts) as client:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("linear", "2")
        assert (await client.get_server_metadata()).name == "penstock"
        assert (await client.get_model_metadata("late")).name == "late"
        assert (await client.get_model_config("late")).config.name == "late"
        await client.infer("linear", given(facts.case("linear")))
        (one,) = (await client.get_inference_statistics("linear")).model_stats
        assert one.inference_stats.success.count > 0


async def check_inference(facts):
    async with connect(facts) as client:
        for name in ("linear", "late", "types", "wide", "empty"):
            case = facts.case(name)
            agree(case, await client.infer(case.model, given(case)))
            agree(case, await client.infer(case.model, given(case), compression_algorithm="gzip"))
            agree(case, await client.infer(case.model, given(case), compression_algorithm="deflate"))


async def check_errors(facts):
    case = facts.case("late")
    async with connect(facts) as client:
        assert "nothing" in await failure("NOT_FOUND", client.infer("nothing", number(1)))
        assert "distance" in await failure("INVALID_ARGUMENT", client.infer("late", given(case)[:-1]))
        assert "above 100" in await failure("INVALID_ARGUMENT", client.infer("moody", number(101)))
        await failure("INTERNAL", client.infer("moody", number(-1)))
        await failure("DEADLINE_EXCEEDED", client.infer("moody", number(0.4), timeout=20_000))
        await client.infer("moody", number(0))  # behind what still runs; who cannot wait for that is refused
        await failure("DEADLINE_EXCEEDED", client.infer("moody", number(0.4), client_timeout=0.02))
        await failure("UNIMPLEMENTED", client.get_system_shared_memory_status())
        await failure("UNIMPLEMENTED", client.get_log_settings())
        await failure("NOT_FOUND", client.get_model_metadata("nothing"))


async def check_repository(facts):
    case = facts.case("spare")
    async with connect(facts) as client:
        await client.unload_model("spare")
        await failure("NOT_FOUND", client.infer("spare", given(case)))
        await client.load_model("spare")
        index = await client.get_model_repository_index()
        assert ("spare", "1", "READY") in {(each.name, each.version, each.state) for each in index.models}
        agree(case, await client.infer("spare", given(case)))


async def check_many_at_once(facts):
    async def ask(client, index):
        case = facts.case(("linear", "late", "types")[index % 3])
        result = await client.infer(case.model, given(case), request_id=str(index))
        assert result.get_response().id == str(index)
        agree(case, result)

    async with connect(facts) as client:
        await asyncio.gather(*(ask(client, index) for index in range(96)))


async def check_stream(facts):
    cases = {str(index): facts.case(f"row{index % 8}") for index in range(24)}

    async def requests():
        for name, case in cases.items():
            yield {"model_name": "linear", "inputs": given(case), "request_id": name}
        yield {"model_name": "nothing", "inputs": number(1)}
        yield {"model_name": "moody", "inputs": number(0), "request_id": "last"}

    answered, messages = set(), []
    async with connect(facts) as client:
        async for result, error in client.stream_infer(requests()):
            if error is not None:
                messages.append(error.message())
                continue
            name = result.get_response().id
            answered.add(name)
            if name != "last":
                agree(cases[name], result)
    assert answered == {*cases, "last"}
    (message,) = messages
    assert "nothing" in message


async def check_stream_cancel(facts):
    async def requests():
        yield {"model_name": "moody", "inputs": number(0.3)}
        await asyncio.sleep(30)

    async with connect(facts) as client:
        answers = client.stream_infer(requests())
        waiting = asyncio.ensure_future(answers.__anext__())
        await asyncio.sleep(0.1)
        answers.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        result = await client.infer("moody", number(0))
        assert result.as_numpy("y").tolist() == [0]


if __name__ == "__main__":
    main(__name__)
