"""The addresses of hosts that webhooks name, looked up by threads of their own.

The operating system's look-up blocks, for half a minute where a name's servers do not answer, and nothing ends
it before. So there is a bound on how many go on at once, in all and for each owner; nobody waits for one longer
than a while; and a name that was not found is not asked for again at once.
"""

import asyncio
import contextlib
import socket
import threading
from collections import Counter
from collections.abc import Callable

from penstock.core.clock import Clock
from penstock.serving.jobs.webhook_urls import Address, parse_address

__all__ = ["Names", "NotFoundName"]

LOOKUPS_MAX = 64
PER_OWNER_MAX = 32
MISSES_MAX = 1024
MISSED_S = 10.0

LookUp = Callable[[str, int], list[Address]]
"""Blocks. Raises `OSError`, and `UnicodeError` for what cannot be a name."""


class NotFoundName(Exception):
    """A name without an address. `final`: it cannot be one."""

    def __init__(self, said: str, *, final: bool = False) -> None:
        super().__init__(said)
        self.final = final


class Names:
    """In one event loop. Who asks for a name that is being looked up waits for the same look-up."""

    def __init__(self, clock: Clock, look_up: LookUp | None = None) -> None:
        self._monotonic = clock.monotonic
        self._look_up = look_up or _system_addresses
        self._under_way: dict[tuple[str, int], asyncio.Future[list[Address]]] = {}
        self._owners: Counter[str] = Counter()
        self._misses: dict[str, tuple[float, NotFoundName]] = {}

    async def addresses(self, host: str, port: int, owner: str, within_s: float) -> list[Address]:
        """One at least. Raises `NotFoundName`, where it takes longer too."""
        missed = self._misses.get(host)
        if missed is not None and self._monotonic() < missed[0]:
            raise NotFoundName(str(missed[1]), final=missed[1].final)
        found = self._under_way.get((host, port)) or self._begin(host, port, owner)
        try:
            async with asyncio.timeout(within_s):
                return await asyncio.shield(found)
        except TimeoutError:
            miss = NotFoundName(f"{host} was not found within {within_s:g} s: its name servers do not answer")
            self._miss(host, miss)
            raise miss from None

    def _begin(self, host: str, port: int, owner: str) -> "asyncio.Future[list[Address]]":
        if len(self._under_way) >= LOOKUPS_MAX or self._owners[owner] >= PER_OWNER_MAX:
            raise NotFoundName(f"{host} was not looked up: too many names that do not answer are asked for")
        loop = asyncio.get_running_loop()
        found: asyncio.Future[list[Address]] = loop.create_future()
        found.add_done_callback(_seen)
        self._under_way[host, port] = found
        self._owners[owner] += 1

        def settle(addresses: list[Address], miss: NotFoundName | None) -> None:
            del self._under_way[host, port]
            self._owners[owner] -= 1
            if not self._owners[owner]:
                del self._owners[owner]
            if miss is None:
                self._misses.pop(host, None)
                found.set_result(addresses)
            else:
                self._miss(host, miss)
                found.set_exception(miss)

        def work() -> None:
            addresses, miss = self._outcome(host, port)
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(settle, addresses, miss)

        # Not of a pool, which would be waited for when the process ends.
        threading.Thread(target=work, name="penstock-webhook-name", daemon=True).start()
        return found

    def _outcome(self, host: str, port: int) -> tuple[list[Address], NotFoundName | None]:
        """In the thread."""
        try:
            addresses = self._look_up(host, port)
        except UnicodeError:
            return [], NotFoundName(f"{host} cannot be a name", final=True)
        except Exception as error:
            said = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
            return [], NotFoundName(f"{host} has no address: {said}")
        return addresses, None if addresses else NotFoundName(f"{host} has no address")

    def _miss(self, host: str, miss: NotFoundName) -> None:
        self._misses.pop(host, None)
        if len(self._misses) >= MISSES_MAX:
            del self._misses[next(iter(self._misses))]
        self._misses[host] = (self._monotonic() + MISSED_S, miss)


def _seen(found: "asyncio.Future[list[Address]]") -> None:
    """That nobody waits for it any more is no fault to speak of."""
    if not found.cancelled():
        found.exception()


def _system_addresses(host: str, port: int) -> list[Address]:
    """As the operating system finds them, each once."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    parsed = (parse_address(str(place[0])) for *_, place in found)
    return list(dict.fromkeys(address for address in parsed if address is not None))
