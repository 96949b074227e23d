import asyncio
import ipaddress
import socket
import threading
from collections.abc import Iterator

import pytest

from penstock.core.clock import ManualClock
from penstock.serving.jobs import webhook_names
from penstock.serving.jobs.webhook_names import MISSED_S, Names, NotFoundName

ADDRESS = ipaddress.ip_address("93.184.216.34")
LONG_S = 30.0


class Servers:
    """Name servers: `slow` ones answer when the gate opens."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.asked: list[str] = []
        self.missing: set[str] = set()

    def look_up(self, host: str, port: int):
        self.asked.append(host)
        if host.startswith("slow"):
            self.gate.wait(LONG_S)
        if host in self.missing:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        if host == "not a name":
            raise UnicodeError
        return [ADDRESS] if host != "empty" else []


@pytest.fixture
def servers() -> Iterator[Servers]:
    made = Servers()
    yield made
    made.gate.set()


def test_names_that_nobody_answers_hold_up_no_others(servers: Servers) -> None:
    async def asking():
        names = Names(ManualClock(), servers.look_up)
        slow = [
            asyncio.ensure_future(names.addresses(f"slow{n}", 80, "acme", LONG_S))
            for n in range(webhook_names.PER_OWNER_MAX)
        ]
        await asyncio.sleep(0)
        assert await names.addresses("quick", 80, "zeta", LONG_S) == [ADDRESS]
        with pytest.raises(NotFoundName, match="too many"):
            await names.addresses("one more", 80, "acme", LONG_S)
        servers.gate.set()
        assert await asyncio.gather(*slow) == [[ADDRESS]] * len(slow)
        assert await names.addresses("one more", 80, "acme", LONG_S) == [ADDRESS]

    asyncio.run(asking())


def test_there_are_only_so_many_at_once(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_names, "LOOKUPS_MAX", 3)

    async def asking():
        names = Names(ManualClock(), servers.look_up)
        slow = [asyncio.ensure_future(names.addresses(f"slow{n}", 80, f"{n}", LONG_S)) for n in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(NotFoundName, match="too many"):
            await names.addresses("quick", 80, "zeta", LONG_S)
        servers.gate.set()
        await asyncio.gather(*slow)

    asyncio.run(asking())


def test_many_who_ask_for_a_name_ask_once(servers: Servers) -> None:
    async def asking():
        names = Names(ManualClock(), servers.look_up)
        asked = [asyncio.ensure_future(names.addresses("slow", 80, "acme", LONG_S)) for _ in range(20)]
        await asyncio.sleep(0)
        servers.gate.set()
        return await asyncio.gather(*asked)

    assert asyncio.run(asking()) == [[ADDRESS]] * 20
    assert servers.asked == ["slow"]


def test_a_name_that_takes_too_long_is_let_go_of_and_found_later(servers: Servers) -> None:
    async def asking():
        clock = ManualClock()
        names = Names(clock, servers.look_up)
        with pytest.raises(NotFoundName, match=r"within 0\.01 s") as caught:
            await names.addresses("slow", 80, "acme", 0.01)
        assert not caught.value.final
        with pytest.raises(NotFoundName, match=r"within 0\.01 s"):
            await names.addresses("slow", 80, "acme", LONG_S)
        clock.advance(MISSED_S)
        waiting = asyncio.ensure_future(names.addresses("slow", 80, "acme", LONG_S))
        await asyncio.sleep(0)
        servers.gate.set()
        assert await waiting == [ADDRESS]

    asyncio.run(asking())
    assert servers.asked == ["slow"]


def test_what_is_not_found_is_not_asked_for_again_at_once(servers: Servers) -> None:
    servers.missing.add("gone")

    async def asking():
        clock = ManualClock()
        names = Names(clock, servers.look_up)
        for _ in range(3):
            with pytest.raises(NotFoundName, match="gone has no address: Name or service not known"):
                await names.addresses("gone", 80, "acme", LONG_S)
        servers.missing.clear()
        clock.advance(MISSED_S)
        assert await names.addresses("gone", 80, "acme", LONG_S) == [ADDRESS]

    asyncio.run(asking())
    assert servers.asked == ["gone", "gone"]


@pytest.mark.parametrize(("host", "final"), [("not a name", True), ("empty", False)])
def test_what_has_no_address(servers: Servers, host: str, final: bool) -> None:
    async def asking():
        with pytest.raises(NotFoundName, match=host) as caught:
            await Names(ManualClock(), servers.look_up).addresses(host, 80, "acme", LONG_S)
        return caught.value.final

    assert asyncio.run(asking()) is final


def test_misses_are_kept_within_a_bound(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_names, "MISSES_MAX", 2)
    servers.missing |= {"a", "b", "c"}

    async def asking():
        names = Names(ManualClock(), servers.look_up)
        for host in ("a", "b", "c", "a", "c"):
            with pytest.raises(NotFoundName):
                await names.addresses(host, 80, "acme", LONG_S)

    asyncio.run(asking())
    assert servers.asked == ["a", "b", "c", "a"]
