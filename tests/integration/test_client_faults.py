"""The client and servers that refuse, are late, break off or talk nonsense."""

import asyncio
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import numpy as np
import pytest
from fake_v2_server import FakeServer, Reply, answer, eventually, faking, http, refusal

import penstock as ps
from penstock.client import (
    BadAnswer,
    CallFailed,
    CallRefused,
    CallRejected,
    CallTimedOut,
    ConnectionSettings,
    HedgePolicy,
    RetryPolicy,
    Unreachable,
    criticality,
    deadline,
)

X = {"x": np.array([1.0], np.float32)}
QUICK = RetryPolicy(first_s=0.01, longest_s=0.02)


def infer(client: ps.Client, **options: object) -> float:
    return float(client.infer("double", X, **options).outputs["y"][0])  # type: ignore[arg-type]


def test_a_refusal_is_waited_for_as_long_as_it_asks() -> None:
    replies = [refusal(503, retry_after="1", x_shed_reason="priority"), answer()]
    with faking(replies.__getitem__) as server, ps.Client(server.url, timeout_s=10) as client:
        assert infer(client) == 2.0
        first, second = server.asked
        assert second.at_s - first.at_s >= 1.0
        assert "x-retry-attempt" not in first.headers
        assert second.headers["x-retry-attempt"] == "1"
        assert (
            0 < int(second.headers["x-request-timeout-ms"]) <= int(first.headers["x-request-timeout-ms"]) - 1000
        )
        assert client.statistics().retries == 1
        assert client.statistics().endpoints[0].failures == 0


@pytest.mark.parametrize("retry_after", ["3600", "date"])
@pytest.mark.parametrize("status", [503, 429])
def test_one_that_asks_for_more_time_than_there_is_ends_the_call(status: int, retry_after: str) -> None:
    if retry_after == "date":
        retry_after = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    with faking(lambda _: refusal(status, retry_after=retry_after)) as server:
        with ps.Client(server.url, timeout_s=10) as client, pytest.raises(CallRefused) as raised:
            infer(client)
        error = raised.value
        assert (error.status, error.attempts, error.url) == (status, 1, server.url)
        assert error.retry_after_s == pytest.approx(3600, abs=60)
        assert "not now" in error.message
        assert len(server.asked) == 1


def test_another_server_is_asked_meanwhile_but_not_to_get_round_a_quota() -> None:
    with faking() as other, faking(lambda _: refusal(503, retry_after="3600")) as full:
        with ps.Client([other.url, full.url], timeout_s=10, retry=QUICK) as client:
            assert {infer(client) for _ in range(20)} == {2.0}
        assert full.asked
        full.behave = lambda _: refusal(429, retry_after="3600")
        asked = len(other.asked)
        with ps.Client(full.url, retry=QUICK) as known:
            known.metadata("double")
        with ps.Client([full.url, other.url], timeout_s=10, retry=QUICK) as client:
            refused = 0
            for _ in range(20):
                try:
                    infer(client)
                except CallRefused as error:
                    assert error.status == 429  # noqa: PT017 - some of the calls are answered
                    refused += 1
        assert refused > 0
        assert len(other.asked) - asked == 20 - refused


@pytest.mark.parametrize(
    ("reply", "kind", "said"),
    [
        (http(400, b'{"error": "input \'x\' is odd"}'), CallRejected, "input 'x' is odd"),
        (http(413, b"<html>too large</html>"), CallRejected, "too large"),
        (http(504, b'{"error": "late"}'), CallTimedOut, "did not answer in time"),
        (http(500, b'{"error": "the model broke"}'), BadAnswer, "the model broke"),
        (http(302, b"", location="http://elsewhere"), BadAnswer, "302"),
        (http(200, b"{}"), BadAnswer, "not what V2 answers"),
        (http(200, b"\xff\xfe", inference_header_content_length="9"), BadAnswer, "of 2 bytes"),
        (Reply(b"220 smtp.example.org ESMTP\r\n", then="close"), BadAnswer, "not HTTP"),
    ],
)
def test_what_is_not_sent_again(reply: Reply, kind: type[CallFailed], said: str) -> None:
    with faking(lambda _: reply) as server, ps.Client(server.url, timeout_s=10, retry=QUICK) as client:
        with pytest.raises(kind, match=said) as raised:
            infer(client)
        assert raised.value.attempts == 1
        assert raised.value.url == server.url
        assert len(server.asked) == 1


def test_half_an_answer_is_none_and_asked_for_again() -> None:
    whole = answer()
    half = Reply(whole.data[:-2], then="close")
    with faking(lambda number: half if number < 2 else whole) as server:
        with ps.Client(server.url, timeout_s=10, retry=QUICK) as client:
            assert infer(client) == 2.0
        assert len(server.asked) == 3
        server.behave = lambda _: half
        with ps.Client(server.url, timeout_s=10, retry=QUICK) as client:
            with pytest.raises(Unreachable, match="in the middle of the answer") as raised:
                infer(client)
            assert raised.value.attempts == QUICK.attempts_max


def test_a_late_answer_is_not_waited_for_and_the_server_sees_it() -> None:
    slow = Reply(answer().data, wait_s=20)
    with faking(lambda _: slow) as server, ps.Client(server.url) as client:
        client.metadata("double")
        with pytest.raises(CallTimedOut, match=r"within 0\.[23]\d* s") as raised:
            infer(client, timeout_s=0.3)
        assert raised.value.reason == "deadline"
        assert 0 < int(server.asked[0].headers["x-request-timeout-ms"]) <= 300
        eventually(lambda: server.hung_up == 1)
        server.behave = lambda _: answer()
        assert infer(client) == 2.0


def test_retries_end_with_the_budget() -> None:
    policy = RetryPolicy(first_s=0.001, longest_s=0.002, budget_tokens_max=3, budget_floor_per_s=0)
    with faking(lambda _: refusal(503, x_shed_reason="queue_full")) as server:
        with ps.Client(server.url, timeout_s=10, retry=policy) as client:
            for _ in range(50):
                with pytest.raises(CallRefused, match="not now"):
                    infer(client)
            given = client.statistics().budget.given
        # 51 calls (one for the metadata) bring 5.1 tokens, but no more than 3 are ever kept.
        assert given <= 3 + 5
        assert len(server.asked) == 50 + given


def test_a_slow_server_is_hedged_and_cut_off() -> None:
    slow = Reply(answer(1.0).data, wait_s=20)
    with faking(lambda _: answer(2.0)) as quick, faking(lambda _: slow) as late:
        with ps.Client([late.url, quick.url], timeout_s=10, hedge=HedgePolicy(after_s=0.5)) as client:
            assert {infer(client) for _ in range(8)} == {2.0}
            statistics = client.statistics()
        assert statistics.hedges == statistics.hedges_won == len(late.asked) > 0
        assert statistics.budget.given == statistics.hedges
        eventually(lambda: late.hung_up == len(late.asked))
        assert all(each.outstanding == 0 for each in statistics.endpoints)


def test_a_hedge_whose_first_attempt_fails_waits_for_the_second() -> None:
    broken = Reply(b"", wait_s=0.2, then="close")
    hedge = HedgePolicy(after_s=0.05)
    with (
        faking(lambda _: broken) as bad,
        faking(lambda _: Reply(answer().data, wait_s=0.4)) as good,
        ps.Client([bad.url, good.url], timeout_s=10, hedge=hedge) as client,
    ):
        for _ in range(5):
            assert infer(client) == 2.0


@pytest.mark.parametrize("reply", [http(500, b'{"error": "broke"}'), http(404, b"{}"), Reply(b"nonsense\r\n")])
def test_a_hedge_that_is_answered_wrongly_spoils_no_call(reply: Reply) -> None:
    with (
        faking(lambda _: Reply(answer().data, wait_s=0.3)) as good,
        faking(lambda _: reply) as bad,
        ps.Client([good.url, bad.url], timeout_s=10, hedge=HedgePolicy(after_s=0.05)) as client,
    ):
        answered = 0
        for _ in range(10):
            asked = len(good.asked)
            try:
                answered += infer(client) == 2.0
            except CallFailed:
                assert len(good.asked) == asked, "the other server would have answered"
        assert answered > 0


def test_the_deadline_and_criticality_around_a_call_go_with_it() -> None:
    with faking() as server, ps.Client(server.url, timeout_s=20, api_key="k-1") as client:
        with deadline(5), criticality("sheddable"):
            infer(client)
            infer(client, timeout_s=2, criticality=1)
        infer(client)
        inherited, own, neither = server.asked
    assert 0 < int(inherited.headers["x-request-timeout-ms"]) <= 5000
    assert inherited.headers["x-criticality"] == "SHEDDABLE"
    assert 0 < int(own.headers["x-request-timeout-ms"]) <= 2000
    assert own.headers["x-criticality"] == "CRITICAL_PLUS"
    assert 5000 < int(neither.headers["x-request-timeout-ms"]) <= 20_000
    assert "x-criticality" not in neither.headers
    assert neither.headers["x-api-key"] == "k-1"


def test_where_no_server_is_each_is_named() -> None:
    with faking() as gone:
        pass
    with faking() as going:
        urls = [gone.url, going.url]
        client = ps.Client(urls, timeout_s=5, retry=QUICK)
        assert infer(client) == 2.0
    with client:
        for _ in range(5):
            with pytest.raises(Unreachable) as raised:
                infer(client)
            assert all(f"{url}: " in raised.value.message for url in urls)
            assert "connection refused" in raised.value.message
        assert not client.ready()
        assert [each.up for each in client.statistics().endpoints] == [False, False]


def test_one_that_stops_serving_is_left_and_taken_back_when_it_is_ready() -> None:
    with faking() as other, faking(lambda _: refusal(503)) as stopping:
        stopping.ready = False
        with ps.Client([other.url, stopping.url], timeout_s=10, retry=QUICK) as client:
            eventually(lambda: infer(client) == 2.0 and not client.statistics().endpoints[1].up)
            asked = len(stopping.asked)
            for _ in range(20):
                infer(client)
            assert len(stopping.asked) == asked
            eventually(lambda: stopping.probes >= 2)
            stopping.ready = True
            stopping.behave = lambda _: answer()
            eventually(lambda: client.statistics().endpoints[1].up)
            eventually(lambda: infer(client) == 2.0 and len(stopping.asked) > asked)


def test_a_server_that_sheds_is_not_left() -> None:
    with faking(lambda _: refusal(503, x_shed_reason="priority")) as server:
        with ps.Client(server.url, timeout_s=10, retry=RetryPolicy(attempts_max=1)) as client:
            for _ in range(10):
                with pytest.raises(CallRefused) as raised:
                    infer(client)
                assert raised.value.reason == "priority"
            (endpoint,) = client.statistics().endpoints
        assert (endpoint.up, endpoint.ejections) == (True, 0)


def test_a_server_that_hangs_is_left() -> None:
    hanging = Reply(b"", wait_s=20)
    with faking() as good, faking(lambda _: hanging) as bad:
        bad.ready = False
        with ps.Client([good.url, bad.url]) as client:
            client.metadata("double")

            def left() -> bool:
                try:
                    infer(client, timeout_s=0.1)
                except CallTimedOut:
                    return False
                return not client.statistics().endpoints[1].up

            eventually(left)
            asked = len(bad.asked)
            assert {infer(client) for _ in range(20)} == {2.0}
            assert len(bad.asked) == asked


def test_a_model_whose_inputs_changed_is_asked_by_its_new_ones() -> None:
    with faking() as server, ps.Client(server.url) as client:
        assert infer(client) == 2.0
        renamed = [{"name": "z", "datatype": "FP64", "shape": [-1]}]
        server.metadata = {**server.metadata, "inputs": renamed}
        assert client.infer("double", {"z": [1]}).outputs["y"].tolist() == [2.0]
        with pytest.raises(ps.InvalidInput, match="missing"):
            infer(client)


def test_calls_under_way_fail_when_the_client_is_closed() -> None:
    with faking(lambda _: Reply(b"", wait_s=20)) as server:
        client = ps.Client(server.url)
        failed: list[CallFailed] = []

        def call() -> None:
            with pytest.raises(CallFailed) as raised:
                infer(client)
            failed.append(raised.value)

        threads = [threading.Thread(target=call) for _ in range(4)]
        for thread in threads:
            thread.start()
        eventually(lambda: len(server.asked) == 4)
        client.close()
        for thread in threads:
            thread.join(10)
        assert [error.reason for error in failed] == ["closed"] * 4
        with pytest.raises(ps.InvalidInput, match="closed"):
            infer(client)
        client.close()


def test_calls_beyond_the_connections_wait_within_their_time() -> None:
    held = Reply(answer().data, wait_s=0.1)
    settings = ConnectionSettings(connections_max=2)

    async def run(server: FakeServer) -> list[object]:
        async with ps.AsyncClient(server.url, connection=settings) as client:
            await client.metadata("double")
            calls = [client.infer("double", X) for _ in range(6)]
            late = client.infer("double", X, timeout_s=0.05)
            return list(await asyncio.gather(*calls, late, return_exceptions=True))

    with faking(lambda _: held) as server:
        *answers, late = asyncio.run(run(server))
        assert not any(isinstance(each, Exception) for each in answers)
        assert isinstance(late, CallTimedOut)


def test_an_async_client_belongs_to_one_loop() -> None:
    with faking() as server:
        client = ps.AsyncClient(server.url)

        async def call() -> None:
            await client.infer("double", X)
            await client.aclose()

        asyncio.run(call())
        with pytest.raises(ps.InvalidInput, match="closed"):
            asyncio.run(call())


LEFT_OPEN = """
import os, sys, numpy, penstock
client = penstock.Client(sys.argv[1])
first = client.infer("double", {"x": [1.0]}).outputs["y"][0]
child = os.fork()
if child == 0:
    same = client.infer("double", {"x": [1.0]}).outputs["y"][0] == first
    os._exit(0 if same else 1)
assert os.waitpid(child, 0)[1] == 0
assert client.infer("double", {"x": [1.0]}).outputs["y"][0] == first
"""


@pytest.mark.parametrize("ending", ["", "client.close()", "del client", "penstock.Client(sys.argv[1]); 1 / 0"])
def test_a_program_ends_in_silence_and_may_fork(ending: str) -> None:
    with faking() as server:
        code = f"{LEFT_OPEN}\n{ending}"
        done = subprocess.run(
            [sys.executable, "-X", "dev", "-W", "error", "-c", code, server.url],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    # A machine with much else to do makes callbacks slow, which asyncio's debugging tells.
    lines = [line for line in done.stderr.splitlines() if not line.startswith("Executing <")]
    told = [line for line in lines if "Zero" not in line and "line" not in line]
    assert [line for line in told if not line.startswith(("Traceback", "    "))] == [], done.stderr
    assert done.returncode == ("1 / 0" in ending)


@pytest.mark.parametrize("hedge", [None, HedgePolicy(after_s=0.0)])
def test_a_cancelled_call_leaves_nothing_under_way(hedge: HedgePolicy | None) -> None:
    with ExitStack() as stack:
        servers = [stack.enter_context(faking(lambda _: Reply(b"", wait_s=20))) for _ in range(2)]

        async def run() -> None:
            async with ps.AsyncClient([each.url for each in servers], hedge=hedge) as client:
                await client.metadata("double")
                call = asyncio.create_task(client.infer("double", X))
                while not any(each.asked for each in servers):  # noqa: ASYNC110 - it is set in another thread
                    await asyncio.sleep(0.01)
                call.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await call
                assert all(each.outstanding == 0 for each in client.statistics().endpoints)
                assert asyncio.all_tasks() == {asyncio.current_task()}

        asyncio.run(run())
        eventually(lambda: sum(each.hung_up for each in servers) == sum(len(each.asked) for each in servers))


def test_a_clock_reads_on() -> None:
    """A deadline that has passed already is said so without asking anybody."""
    with faking() as server, ps.Client(server.url) as client:
        infer(client)
        with deadline(0.001):
            time.sleep(0.01)
            with pytest.raises(CallTimedOut):
                infer(client)
        assert len(server.asked) == 1
