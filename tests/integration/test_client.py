"""The client and real servers: answers as the models give them, and no failed call while one server is up."""

import asyncio
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from command_line import CommandLine
from fake_v2_server import eventually
from running_server import BODY_BYTES_MAX, RunningServer, columns, running
from sample_models import SampleModel

import penstock as ps
from penstock.client import CallRejected, CallTimedOut, HedgePolicy

PAIR_APP = """
import penstock as ps
app = ps.App("pair", objective=ps.Objective(latency_ms=60_000))

@app.callable("double", signature=ps.Signature.of(inputs={"x": "FP32[-1]"}, outputs={"y": "FP32[-1]"}))
def double(inputs):
    return {"y": 2 * inputs["x"]}
"""
CALLERS = 32
CALLS_AFTER = 20


@pytest.fixture(scope="module")
def asking(server: RunningServer) -> Iterator[ps.Client]:
    with ps.Client(server.url) as client:
        yield client


def test_answers_are_the_models(asking: ps.Client, late: SampleModel, linear: SampleModel) -> None:
    rows = late.rows[:50]
    found = asking.infer("late", columns(rows))
    assert found.outputs["label"].tolist() == late.native.predict(rows).tolist()
    assert found.model == "late"
    matrix = linear.rows[:20]
    answer = asking.infer("linear", {asking.metadata("linear").inputs[0].name: matrix}, version=2, id="a")
    assert (answer.version, answer.id, answer.rung) == ("2", "a", "")
    probabilities = linear.native.predict_proba(matrix)
    assert any(
        each.shape == probabilities.shape and np.allclose(each, probabilities, atol=1e-5)
        for each in answer.outputs.values()
    )


def test_lists_and_frames_are_taken_as_they_are(asking: ps.Client) -> None:
    assert asking.infer("double", {"x": [1, 2.5]}).outputs["y"].tolist() == [2.0, 5.0]
    assert asking.infer("text", {"x": ["straße"]}).outputs["y"].tolist() == ["STRASSE"]
    only = asking.infer("counter", {"x": range(3)}, outputs=["pid"])
    assert list(only.outputs) == ["pid"]
    assert len(only.outputs["pid"]) == 3


def test_mistakes_are_told(asking: ps.Client) -> None:
    with pytest.raises(ps.InvalidInput, match="expected INT64, got float64"):
        asking.infer("counter", {"x": [0.5]})
    with pytest.raises(CallRejected, match="above 100") as raised:
        asking.infer("picky", {"x": [101]})
    assert (raised.value.status, raised.value.attempts) == (400, 1)
    with pytest.raises(CallRejected, match="nothing") as raised:
        asking.infer("nothing/../double", {"x": [1]})
    assert raised.value.status == 404
    with pytest.raises(CallRejected, match="unknown output"):
        asking.infer("double", {"x": [1]}, outputs=["z"])


def test_a_body_that_is_too_large_is_refused_before_it_is_read(asking: ps.Client) -> None:
    for _ in range(5):
        with pytest.raises(CallRejected) as raised:
            asking.infer("double", {"x": np.zeros(4 * BODY_BYTES_MAX, np.float32)})
        assert raised.value.status == 413


def test_the_server_gives_up_with_the_caller(asking: ps.Client) -> None:
    with pytest.raises(CallTimedOut):
        asking.infer("sleepy", {"x": [1.0]}, timeout_s=0.2)


def test_ready(asking: ps.Client) -> None:
    assert asking.ready()
    assert asking.ready("double")
    assert not asking.ready("nothing")


def test_threads_share_a_client(asking: ps.Client) -> None:
    def call(number: int) -> bool:
        return bool(asking.infer("double", {"x": [number]}).outputs["y"][0] == 2 * number)

    with ThreadPoolExecutor(16) as threads:
        assert all(threads.map(call, range(300)))


def start(stack: ExitStack, folder: Path, port: int = 0) -> RunningServer:
    folder.mkdir()
    return stack.enter_context(running(CommandLine(folder), PAIR_APP, "--port", str(port)))


@pytest.mark.parametrize("hedge", [None, HedgePolicy()], ids=["plain", "hedged"])
def test_a_killed_server_fails_no_call_and_is_taken_back(tmp_path: Path, hedge: HedgePolicy | None) -> None:
    """Kill -9 of one of two under load, then the same again on its port."""

    async def run(stack: ExitStack) -> None:
        kept, killed = start(stack, tmp_path / "kept"), start(stack, tmp_path / "killed")
        answered = [0]
        ending = asyncio.Event()
        async with ps.AsyncClient([kept.url, killed.url], timeout_s=20, hedge=hedge) as client:

            async def caller(number: int) -> None:
                while not ending.is_set():
                    answer = await client.infer("double", {"x": [number]})
                    assert answer.outputs["y"][0] == 2 * number
                    answered[0] += 1

            async def answers(count: int) -> None:
                wanted = answered[0] + count
                while answered[0] < wanted:
                    await asyncio.sleep(0.01)
                    assert not any(task.done() for task in callers), "a call failed"

            callers = [asyncio.create_task(caller(number)) for number in range(CALLERS)]
            await answers(200)
            killed.process.send_signal(signal.SIGKILL)
            await asyncio.to_thread(killed.process.wait)
            await answers(CALLERS * CALLS_AFTER)
            down = client.statistics().endpoints[1]
            assert not down.up
            assert down.why
            again = await asyncio.to_thread(start, stack, tmp_path / "again", killed.port)
            assert again.port == killed.port
            while not client.statistics().endpoints[1].up:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.01)
            before = client.statistics().endpoints[1].attempts
            await answers(CALLERS * CALLS_AFTER)
            statistics = client.statistics()
            assert statistics.endpoints[1].attempts > before
            assert statistics.failed == 0
            ending.set()
            await asyncio.gather(*callers)

    with ExitStack() as stack:
        asyncio.run(asyncio.wait_for(run(stack), 120))


def test_threads_survive_the_kill_as_well(tmp_path: Path) -> None:
    with ExitStack() as stack:
        kept, killed = start(stack, tmp_path / "kept"), start(stack, tmp_path / "killed")
        client = stack.enter_context(ps.Client([kept.url, killed.url], timeout_s=20))
        ending = threading.Event()
        failures: list[BaseException] = []

        def caller() -> None:
            try:
                while not ending.is_set():
                    client.infer("double", {"x": [1]})
            except BaseException as error:
                failures.append(error)
                raise

        threads = [threading.Thread(target=caller) for _ in range(8)]
        for thread in threads:
            thread.start()
        eventually(lambda: client.statistics().calls > 100)
        killed.process.kill()
        killed.process.wait()
        calls = client.statistics().calls
        eventually(lambda: failures or client.statistics().calls > calls + 200)
        ending.set()
        for thread in threads:
            thread.join(30)
        assert not failures
        assert client.statistics().failed == 0
