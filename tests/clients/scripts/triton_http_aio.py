"""Every call of tritonclient.http.aio against a running server.

It offers gzip, deflate and br in each request, by aiohttp, and decodes gzip and deflate of inferences only.
"""

import asyncio

import numpy as np
import tritonclient.http.aio as triton
from checks import main, raised_later
from triton_http import agree, given, number
from tritonclient.utils import InferenceServerException


def connect(facts):
    return triton.InferenceServerClient(f"{facts.host}:{facts.port}")


async def failure(status, awaitable):
    error = await raised_later(InferenceServerException, awaitable)
    assert error.status() == status, (error.status(), error.message())
    assert "Traceback" not in error.message()
    return error.message()


async def check_health(facts):
    async with connect(facts) as client:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("linear", "2")
        assert not await client.is_model_ready("linear", "77")


async def check_metadata(facts):
    async with connect(facts) as client:
        assert (await client.get_server_metadata())["name"] == "penstock"
        model = await client.get_model_metadata("late")
        assert [each["name"] for each in model["inputs"]] == list(facts.case("late").inputs)
        assert (await client.get_model_config("late"))["name"] == "late"
        assert "nothing" in await failure("404", client.get_model_metadata("nothing"))
        assert "nothing" in await failure("404", client.get_model_config("nothing"))


async def check_statistics(facts):
    async with connect(facts) as client:
        case = facts.case("linear")
        await client.infer("linear", given(case))
        (one,) = (await client.get_inference_statistics("linear"))["model_stats"]
        assert one["inference_stats"]["success"]["count"] > 0
        assert len((await client.get_inference_statistics())["model_stats"]) > 1


async def check_inference(facts):
    async with connect(facts) as client:
        for name in ("linear", "late", "types", "wide"):
            case = facts.case(name)
            agree(case, await client.infer(case.model, given(case)))
        for name in ("linear", "late", "types_json"):
            case = facts.case(name)
            outputs = [triton.InferRequestedOutput(each, binary_data=False) for each in case.outputs]
            agree(case, await client.infer(case.model, given(case, binary=False), outputs=outputs))
        result = await client.infer("linear", given(facts.case("linear")), model_version="2", request_id="7")
        assert (result.get_response()["id"], result.get_response()["model_version"]) == ("7", "2")


async def check_compression(facts):
    case = facts.case("wide")
    async with connect(facts) as client:
        for algorithm in ("gzip", "deflate"):
            result = await client.infer(
                case.model,
                given(case),
                request_compression_algorithm=algorithm,
                response_compression_algorithm=algorithm,
            )
            agree(case, result)


async def check_what_newer_pythons_offer(facts):
    """Where Python has zstd, aiohttp offers it too, which tritonclient cannot read."""
    case = facts.case("wide")
    offered = {"Accept-Encoding": "gzip, deflate, br, zstd"}
    async with connect(facts) as client:
        agree(case, await client.infer(case.model, given(case), headers=offered))


async def check_errors(facts):
    case = facts.case("late")
    async with connect(facts) as client:
        assert "nothing" in await failure("404", client.infer("nothing", number(1)))
        assert "distance" in await failure("400", client.infer("late", given(case)[:-1]))
        assert "above 100" in await failure("400", client.infer("moody", number(101)))
        await failure("500", client.infer("moody", number(-1)))
        await failure("504", client.infer("moody", number(0.4), timeout=20_000))
        await failure("404", client.get_system_shared_memory_status())
        await failure("404", client.register_system_shared_memory("region", "/region", 64))
        inside = triton.InferInput("x", [1], "FP32").set_shared_memory("region", 4)
        assert "shared" in await failure("400", client.infer("moody", [inside]))
        await failure("404", client.get_log_settings())
        await failure("404", client.get_trace_settings())


async def check_repository(facts):
    case = facts.case("spare")
    async with connect(facts) as client:
        await client.unload_model("spare")
        assert not await client.is_model_ready("spare")
        await client.load_model("spare")
        index = await client.get_model_repository_index()
        assert ("spare", "1", "READY") in {(each["name"], each["version"], each["state"]) for each in index}
        agree(case, await client.infer("spare", given(case)))


async def check_many_at_once(facts):
    async def ask(client, index):
        case = facts.case(("linear", "late", "types")[index % 3])
        result = await client.infer(case.model, given(case), request_id=str(index))
        assert result.get_response()["id"] == str(index)
        agree(case, result)

    async def number_back(client, index):
        result = await client.infer("linear", given(rows[index]))
        agree(rows[index], result)

    rows = [facts.case(f"row{index}") for index in range(8)]
    async with connect(facts) as client:
        await asyncio.gather(*(ask(client, index) for index in range(48)))
        await asyncio.gather(*(number_back(client, index % len(rows)) for index in range(64)))


async def check_a_cancelled_call_costs_nothing_more(facts):
    async with connect(facts) as client:
        waiting = asyncio.ensure_future(client.infer("moody", number(0.3)))
        await asyncio.sleep(0.1)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        result = await client.infer("moody", number(0))
        assert np.array_equal(result.as_numpy("y"), np.zeros(1, dtype=np.float32))


if __name__ == "__main__":
    main(__name__)
