"""The wiring of rate limits: an app's and those set at run time, over buckets that all workers share."""

import asyncio
import contextlib
import logging
import mmap
import os
import tempfile
from collections.abc import Iterator

from penstock.app.declarations import App
from penstock.app.stored_limits import StoredLimits
from penstock.core.clock import Clock
from penstock.core.errors import ConfigurationError, PenstockError, shown
from penstock.core.settings import Settings
from penstock.models.registry.database import Database
from penstock.observe.metrics import MetricSet
from penstock.serving.admission.rate_limits import RateLimits
from penstock.serving.admission.rates.buckets import BUCKETS_BYTES, BucketTable
from penstock.serving.admission.rates.rule import RateRule
from penstock.serving.admission.rates.tenants import Tenants, parse_networks
from penstock.serving.admission.rights import Rights

__all__ = ["LimitsFollower", "make_limits", "make_rights", "open_buckets", "shared_buckets"]

log = logging.getLogger(__name__)

EVERY_S_MAX = 1.0
"""What is set holds within two seconds, however seldom the registry is looked at."""


@contextlib.contextmanager
def shared_buckets() -> Iterator[int]:
    """The descriptor of memory for the buckets of all workers of an instance. It has no name."""
    # Of a file rather than of shared memory where there is no memfd: the page cache does nearly as well.
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("penstock-limits", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    try:
        os.ftruncate(descriptor, BUCKETS_BYTES)
        yield descriptor
    finally:
        os.close(descriptor)


def open_buckets(descriptor: int) -> BucketTable:
    """The buckets in memory from `shared_buckets`; the descriptor is not needed any more."""
    memory = mmap.mmap(descriptor, BUCKETS_BYTES)
    os.close(descriptor)
    return BucketTable(memory)


def make_limits(
    app: App, settings: Settings, metrics: MetricSet, clock: Clock, buckets: BucketTable
) -> RateLimits:
    """The limits that the app declares. Raises `ConfigurationError` for proxies that cannot be any."""
    proxies = parse_networks(settings.limits.trusted_proxies)
    tenants = Tenants(app.keys, proxies=proxies, trust_keys=settings.limits.trust_keys)
    limits = RateLimits(tenants, metrics, clock, buckets)
    limits.set_rules(app.limits)
    return limits


def make_rights(app: App, settings: Settings, limits: RateLimits, metrics: MetricSet) -> Rights | None:
    """Whose word counts for what; None where all are equal. `limits` tell the tenants apart.

    Raises `ConfigurationError` for a tenant that the app does not declare.
    """
    privileged = _privileged(app, settings.admission.critical_plus)
    if privileged is None and not settings.limits.trusted_proxies:
        return None
    return Rights(limits.tenants, metrics, limits.clock, privileged=privileged)


def _privileged(app: App, names: str) -> frozenset[str] | None:
    """The tenants with these names; None for anybody."""
    if names.strip() == "*":
        return None
    found = frozenset(filter(None, (name.strip() for name in names.split(","))))
    for name in sorted(found - app.keys.names):
        raise ConfigurationError(
            f"setting 'admission.critical_plus' names {shown(name)}, which is no tenant of app {app.name!r}",
            hint='declare it by app.tenant("name", keys=[...]), or write * alone for anybody',
        )
    return found


class LimitsFollower:
    """Keeps a process's limits at what the app declares and what was set in the control database.

    What was set goes before what is declared for the same tenant and model. While the database cannot be read,
    the limits stay as they are.
    """

    def __init__(self, app: App, settings: Settings, limits: RateLimits) -> None:
        self._declared = app.limits
        self._url = settings.database_url
        self._limits = limits
        self._stored: StoredLimits | None = None
        self._said = ""

    async def start(self) -> None:
        """Reads what was set, so that the first request finds it."""
        await self._follow()

    async def run(self, every_s: float) -> None:
        """Follows the control database for ever."""
        while True:
            await asyncio.sleep(min(every_s, EVERY_S_MAX))
            await self._follow()

    def close(self) -> None:
        if self._stored is not None:
            self._stored.close()

    async def _follow(self) -> None:
        try:
            stored = await asyncio.to_thread(self._read)
            rules = tuple({rule.scope: rule for rule in (*self._declared, *stored)}.values())
        except PenstockError as error:
            if str(error) != self._said:
                self._said = str(error)
                log.warning("rate limits stay as they are: %s", error)
            return
        except Exception:
            log.exception("rate limits stay as they are")
            return
        self._said = ""
        if self._limits.set_rules(rules):
            log.info("rate limits: %s", "; ".join(rule.describe() for rule in rules[:10]) or "none")

    def _read(self) -> tuple[RateRule, ...]:
        """Blocks. An app without a registry has no control database until something is set there."""
        if self._stored is None:
            if not Database.exists(self._url):
                return ()
            self._stored = StoredLimits.open(self._url)
        return self._stored.rules()
