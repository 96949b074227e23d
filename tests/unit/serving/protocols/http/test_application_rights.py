"""What the application believes of who: over the rig of its other tests."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from test_application import INFER, Rig, Sink, message, refused

from penstock.core.clock import SystemClock
from penstock.observe.metrics import MetricSet
from penstock.serving.admission.rates.tenants import ApiKeys, Tenants, parse_networks
from penstock.serving.admission.rights import Rights
from penstock.serving.protocols.http.heads import RequestHead
from penstock.serving.protocols.http.messages import Refusal
from penstock.serving.protocols.terms import Terms

STARTED_AT = datetime(2013, 1, 1, tzinfo=UTC)
STARTED = b"t=1356998400.000"  # the same, by `date -ud @1356998400`


class WallClock(SystemClock):
    """Says that it is the date it is told, and keeps the machine's seconds."""

    def __init__(self):
        self.date = STARTED_AT

    def now(self):
        return self.date


def behind_a_proxy():
    rig = Rig({"request_timeout_s": 30.0})
    wall = WallClock()
    tenants = Tenants(ApiKeys(b"s" * 32), proxies=parse_networks("127.0.0.1"))
    rig.plane.rights = Rights(tenants, MetricSet(), wall)
    return rig, wall


@pytest.mark.parametrize(("peer", "believed"), [(b"127.0.0.1", True), (b"203.0.113.7", False)])
def test_what_waited_longer_than_its_caller_does_is_refused_from_its_head(peer, believed):
    async def life():
        rig, wall = behind_a_proxy()
        assert (await rig.ask(INFER, message())).status == 200
        sink = Sink()
        sink.peer = peer
        # One head, as it is kept by its bytes: it means another time each time that it comes.
        said = {b"x-request-start": STARTED, b"x-request-timeout-ms": b"20000"}
        head = RequestHead(b"POST", INFER.encode(), said)
        for waited_s in (5, 25, 10):
            wall.date = STARTED_AT + timedelta(seconds=waited_s)
            now_s = rig.plane.clock.monotonic()
            verdict = rig.application.meet(head, now_s, sink)
            if believed and waited_s > 20:
                assert isinstance(verdict, Refusal)
                assert b" 504 " in verdict.head
            else:
                assert isinstance(verdict, Terms)
                inference = verdict.inference(rig.plane.find("double", None), {}, now_s, 30.0)
                counted_s = waited_s if believed else 0
                assert now_s - inference.arrived_s == pytest.approx(counted_s, abs=2)
                assert inference.deadline_s == pytest.approx(inference.arrived_s + 20, abs=0.01)
        await rig.plane.close()

    asyncio.run(life())


def test_it_counts_where_the_head_was_not_looked_at():
    async def life():
        rig, wall = behind_a_proxy()
        headers = {"x_request_start": STARTED.decode(), "x_request_timeout_ms": "20000"}
        rows = b'{"inputs": {"x": [[1, 2]]}}'
        for path, body in ((INFER, message()), ("/invocations", rows)):
            wall.date = STARTED_AT
            assert (await rig.ask(path, body, **headers)).status == 200
            wall.date += timedelta(seconds=25)
            refused(await rig.ask(path, body, **headers), 504, "deadline")
        await rig.plane.close()

    asyncio.run(life())
