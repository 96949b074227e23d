"""Several servers of the same models: which one to ask, and which to leave alone for now.

Sources: M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing" (1996), by least outstanding
calls; Envoy's outlier detection, for ejecting after failures in a row and for asking ejected ones all the same
where no other is left.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from urllib.parse import urlsplit

import msgspec

from penstock.core.errors import InvalidInput, shown

__all__ = ["Endpoint", "EndpointStatistics", "Endpoints"]

FAILURES_MAX = 3
"""So many in a row, and it is ejected."""
PROBE_FIRST_S = 0.25
PROBE_LONGEST_S = 5.0
ENDPOINTS_MAX = 256


class EndpointStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """`failures` are those in a row, `ejections` all there were; `why` tells the last failure, "" for none."""

    url: str
    up: bool
    outstanding: int
    attempts: int
    failures: int
    ejections: int
    why: str


class Endpoint:
    """One base URL. `Endpoints` decides; whoever sends counts `outstanding` by `begun` and `ended`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.outstanding = 0
        self.attempts = 0
        self.failures = 0
        self.ejections = 0
        self.probes_failed = 0
        self.probe_s: float | None = None
        """When to ask it whether it is ready again; None: it is up."""
        self.why = ""

    def __repr__(self) -> str:
        return f"Endpoint({self.url!r})"

    @property
    def up(self) -> bool:
        return self.probe_s is None

    def begun(self) -> None:
        self.attempts += 1
        self.outstanding += 1

    def ended(self) -> None:
        assert self.outstanding > 0, "an attempt ends once"
        self.outstanding -= 1

    def statistics(self) -> EndpointStatistics:
        return EndpointStatistics(
            url=self.url,
            up=self.up,
            outstanding=self.outstanding,
            attempts=self.attempts,
            failures=self.failures,
            ejections=self.ejections,
            why=self.why,
        )


class Endpoints:
    """The servers of one client. `draw` draws evenly from 0 to below 1; times are monotonic seconds.

    Raises `InvalidInput` for no URL, too many, one that comes twice, and one that is no http(s)://host.
    """

    def __init__(self, urls: Sequence[str], draw: Callable[[], float]) -> None:
        cleaned = [_clean(url) for url in urls]
        if not cleaned or len(cleaned) > ENDPOINTS_MAX or len(set(cleaned)) != len(cleaned):
            raise InvalidInput(
                f"a client takes 1 to {ENDPOINTS_MAX} different base URLs, got {shown(cleaned)}", where="urls"
            )
        self._all = [Endpoint(url) for url in cleaned]
        self._draw = draw

    def __iter__(self) -> Iterator[Endpoint]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def pick(self, avoid: Collection[Endpoint] = ()) -> Endpoint:
        """One to ask: one that is up and not to avoid, else one that is up, else any that is not to avoid."""
        if len(self._all) == 1:
            return self._all[0]
        for wanted in (
            [each for each in self._all if each.up and each not in avoid],
            [each for each in self._all if each.up],
            [each for each in self._all if each not in avoid],
        ):
            if wanted:
                return self._of_two(wanted)
        return self._of_two(self._all)

    def pick_other(self, avoid: Collection[Endpoint]) -> Endpoint | None:
        """One that is up and not to avoid, None where there is none."""
        wanted = [each for each in self._all if each.up and each not in avoid]
        return self._of_two(wanted) if wanted else None

    def answered(self, endpoint: Endpoint) -> None:
        """It lives, whatever it answered."""
        endpoint.failures = 0
        endpoint.probe_s = None
        endpoint.probes_failed = 0
        endpoint.why = ""

    def failed(self, endpoint: Endpoint, why: str, now_s: float) -> None:
        """It could not be connected to, broke off, or is not serving; the third time in a row ejects it."""
        endpoint.failures += 1
        endpoint.why = why
        if endpoint.up and endpoint.failures >= FAILURES_MAX:
            endpoint.ejections += 1
            endpoint.probes_failed = 0
            self._schedule(endpoint, now_s)

    def probe_failed(self, endpoint: Endpoint, why: str, now_s: float) -> None:
        """It is still not ready: the next probe comes later."""
        if endpoint.up:
            return
        endpoint.why = why
        endpoint.probes_failed += 1
        self._schedule(endpoint, now_s)

    def due(self, now_s: float) -> list[Endpoint]:
        """Those to probe now."""
        return [each for each in self._all if each.probe_s is not None and each.probe_s <= now_s]

    def next_probe_s(self) -> float | None:
        """When the next probe is due, in monotonic seconds; None where all are up."""
        return min((each.probe_s for each in self._all if each.probe_s is not None), default=None)

    def statistics(self) -> list[EndpointStatistics]:
        return [each.statistics() for each in self._all]

    def _of_two(self, wanted: Sequence[Endpoint]) -> Endpoint:
        count = len(wanted)
        if count == 1:
            return wanted[0]
        first = int(self._draw() * count)
        second = int(self._draw() * (count - 1))
        second += second >= first
        return min(wanted[first], wanted[second], key=lambda each: each.outstanding)

    def _schedule(self, endpoint: Endpoint, now_s: float) -> None:
        """Between half the pause and the whole of it: many clients of one server do not ask together."""
        pause_s = min(PROBE_LONGEST_S, PROBE_FIRST_S * 2.0 ** min(endpoint.probes_failed, 32))
        endpoint.probe_s = now_s + pause_s * (0.5 + 0.5 * self._draw())


def _clean(url: str) -> str:
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except (ValueError, AttributeError, TypeError):
        good = False
    # A space or a line's end would be sent as it stands, in the first line of a request.
    if (
        not good
        or parts.query
        or parts.fragment
        or parts.username
        or not url.isascii()
        or not url.isprintable()
    ):
        raise InvalidInput(
            f"{shown(url)} is no base URL", where="urls", hint="write for example http://127.0.0.1:8000"
        )
    if " " in url:
        raise InvalidInput(f"{shown(url)} has a space in it", where="urls")
    return url.rstrip("/")
