"""Whether a tenant may ask a model now: the rules, the tenants and their token buckets together."""

from collections.abc import Iterable, Mapping
from hashlib import blake2b

import msgspec

from penstock.core.clock import Clock
from penstock.core.errors import QuotaExceeded, TooLarge
from penstock.observe.metrics import Counter, MetricSet
from penstock.serving.admission.rates.buckets import BucketStatistics, BucketTable
from penstock.serving.admission.rates.rule import RateLimit, RateRule, RuleBook
from penstock.serving.admission.rates.tenants import Tenants, is_named

__all__ = ["QUOTA", "RateLimits", "RateLimitsStatistics"]

QUOTA = "quota"
"""What `x-shed-reason` says of them."""
PLACES_MAX = 16_384
LABELS_MAX = 1000
OTHER = "other"


class RateLimitsStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """The refused by (model, named tenant or `other`), and the buckets."""

    rules: int
    refused: dict[tuple[str, str], int]
    buckets: BucketStatistics


class RateLimits:
    """One for each process. In the event loop alone."""

    def __init__(
        self, tenants: Tenants, metrics: MetricSet, clock: Clock, table: BucketTable | None = None
    ) -> None:
        self.tenants = tenants
        self._metrics = metrics
        self.clock = clock
        self._table = table or BucketTable()
        self._rules: tuple[RateRule, ...] = ()
        self._book = RuleBook()
        self._places: dict[tuple[str, str], tuple[int, RateLimit, bool] | None] = {}
        """By tenant and model: the bucket's key, its limit, and whether that counts rows."""
        self._refused: dict[tuple[str, str], Counter] = {}
        self.active = False
        """Whether there is any limit."""

    def set_rules(self, rules: Iterable[RateRule]) -> bool:
        """From now on these hold; of several for the same tenant and model the last. Whether that is news.

        Buckets stay as they are, as far as the new limits let them: in seconds until they are full.
        """
        given = tuple(rules)
        if given == self._rules:
            return False
        self._rules = given
        self._book = RuleBook(given)
        self._places.clear()
        self.active = bool(given)
        return True

    def identify(self, headers: Mapping[bytes, bytes], peer: bytes) -> str | None:
        """Who asks; None where there is no limit, and so nobody has to be told apart."""
        return self.tenants.identify(headers, peer) if self.active else None

    def admit(self, tenant: str, model: str, now_s: float) -> float:
        """From a request's head: 0 where it may go on, else the seconds until there will be a token for it.

        A limit of requests is charged with it. One of rows is not: how many there are is not known yet, so
        only who could not even have one is refused.
        """
        try:
            place = self._places[tenant, model]
        except KeyError:
            place = self._place(tenant, model)
        if place is None:
            return 0.0
        key, limit, by_rows = place
        if by_rows:
            wait_s = self._table.wait_s(key, 1.0, limit, now_s)
        else:
            wait_s = self._table.take(key, 1.0, limit, now_s)
        if wait_s:
            self._count(model, tenant)
        return wait_s

    def charge(self, tenant: str, model: str, rows: int, now_s: float, *, counted: bool) -> None:
        """As `take`, for a request that is refused where it has to wait.

        Raises `QuotaExceeded`, and `TooLarge` for more rows than the bucket holds when it is full.
        """
        wait_s = self.take(tenant, model, rows, now_s, counted=counted)
        if not wait_s:
            return
        self._count(model, tenant)
        if wait_s == float("inf"):
            most = self.burst_rows(tenant, model)
            raise TooLarge(
                f"the request has {rows} rows; the rate limit lets {most:g} pass at once",
                where="rows",
                hint="send fewer rows at once",
            )
        raise self.refusal(wait_s)

    def take(self, tenant: str, model: str, rows: int, now_s: float, *, counted: bool) -> float:
        """With its inputs known: charges a request, by its rows where the limit counts those; 0.

        Else how long it has to wait; infinity where the bucket never holds as many tokens. `counted`: it was
        charged as a request already.
        """
        try:
            place = self._places[tenant, model]
        except KeyError:
            place = self._place(tenant, model)
        if place is None:
            return 0.0
        key, limit, by_rows = place
        if not by_rows and counted:
            return 0.0
        return self._table.take(key, float(rows) if by_rows else 1.0, limit, now_s)

    def burst_rows(self, tenant: str, model: str) -> float:
        """How many rows may be charged at once; infinity where rows are not counted."""
        try:
            place = self._places[tenant, model]
        except KeyError:
            place = self._place(tenant, model)
        return place[1].burst if place is not None and place[2] else float("inf")

    def refusal(self, wait_s: float) -> QuotaExceeded:
        """The error for what `admit` does not let pass."""
        return QuotaExceeded(
            "the rate limit for this caller and model is reached",
            reason=QUOTA,
            retry_after_s=wait_s,
            hint="try again after the time in retry-after, or ask for a higher limit",
        )

    def statistics(self) -> RateLimitsStatistics:
        return RateLimitsStatistics(
            rules=len(self._rules),
            refused={scope: int(counter.value) for scope, counter in self._refused.items()},
            buckets=self._table.statistics(self.clock.monotonic()),
        )

    def _place(self, tenant: str, model: str) -> tuple[int, RateLimit, bool] | None:
        limit = self._book.find(tenant if is_named(tenant) else None, model)
        place = None
        if limit is not None:
            digest = blake2b(f"{tenant}\0{model}".encode(), digest_size=8).digest()
            place = (int.from_bytes(digest) or 1, limit, limit.unit == "rows")
        if len(self._places) >= PLACES_MAX:
            self._places.clear()
        self._places[tenant, model] = place
        return place

    def _count(self, model: str, tenant: str) -> None:
        scope = (model, tenant if is_named(tenant) else OTHER)
        counter = self._refused.get(scope)
        if counter is None:
            if len(self._refused) >= LABELS_MAX:
                scope = (model, OTHER)
            counter = self._refused[scope] = self._metrics.counter(
                "penstock_quota_refused_total",
                "Requests refused by a rate limit, by model and named tenant.",
                model=scope[0],
                tenant=scope[1],
            )
        counter.value += 1
