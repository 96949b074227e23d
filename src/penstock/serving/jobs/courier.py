"""Tells webhooks what became of their jobs: at least once, each host and tenant only so many at a time."""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable

import msgspec

from penstock.core.clock import Clock
from penstock.core.errors import PenstockError
from penstock.core.failpoints import Failpoints
from penstock.serving.jobs.delivering import DeliveriesWanted, Delivery, DeliveryEnded, Shares
from penstock.serving.jobs.job import DeliveryState
from penstock.serving.jobs.life import JobPolicy, pause_s
from penstock.serving.jobs.store import CLAIM_DELIVERIES, END_DELIVERIES, JobStore
from penstock.serving.jobs.webhook_sender import WebhookFailed, WebhookSender
from penstock.serving.jobs.webhook_signatures import WebhookSecret

__all__ = ["Courier", "after_failure"]

log = logging.getLogger(__name__)

AT_ONCE_MAX = 64
PER_TENANT_MAX = 32
PER_HOST_MAX = 4
LEASE_TIMEOUTS = 2
UNSIGNED = "this server has no secret to sign webhooks with any more (the setting jobs.webhook_secret)"
STORAGE_PAUSE_S = 1.0
SECOND_US = 1_000_000


class Courier:
    """In the event loop alone. `policy` says how often to try, and when again; `draw` draws from 0 to 1.

    Without a secret nothing is told, and all that is to be told is given up in time.
    """

    def __init__(
        self,
        store: JobStore,
        sender: WebhookSender,
        secret: WebhookSecret | None,
        policy: JobPolicy,
        clock: Clock,
        failpoints: Failpoints,
    ) -> None:
        self._store = store
        self._sender = sender
        self._secret = secret
        self._policy = policy
        self._clock = clock
        self._failpoints = failpoints
        self._hosts: Counter[str] = Counter()
        self._tenants: Counter[str] = Counter()
        self._telling: set[asyncio.Task[None]] = set()
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """There may be a webhook to tell."""
        self._woken.set()

    async def run(self, poll_s: float, draw: Callable[[], float]) -> None:
        """For ever. What is under way when it is cancelled is tried again by others once its lease is over."""
        try:
            while True:
                self._woken.clear()
                try:
                    await self._claim(draw)
                except PenstockError as error:
                    log.warning("no webhooks are told: %s", error)
                    await asyncio.sleep(STORAGE_PAUSE_S)
                except Exception:
                    log.exception("no webhooks are told")
                    await asyncio.sleep(STORAGE_PAUSE_S)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(poll_s):
                        await self._woken.wait()
        finally:
            for task in self._telling:
                task.cancel()

    async def _claim(self, draw: Callable[[], float]) -> None:
        room = AT_ONCE_MAX - len(self._telling)
        if room <= 0 or not (await self._store.due()).webhooks:
            return
        wanted = DeliveriesWanted(
            room,
            LEASE_TIMEOUTS * self._sender.timeout_s,
            Shares(PER_HOST_MAX, dict(self._hosts)),
            Shares(PER_TENANT_MAX, dict(self._tenants)),
        )
        for delivery in await self._store.call(CLAIM_DELIVERIES, wanted):
            self._hosts[delivery.host] += 1
            self._tenants[delivery.job.tenant] += 1
            task = asyncio.get_running_loop().create_task(self._tell(delivery, draw()))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    async def _tell(self, delivery: Delivery, drawn: float) -> None:
        failure: WebhookFailed | None = None
        try:
            await self._send(delivery)
        except WebhookFailed as failed:
            failure = failed
        except Exception as error:
            log.exception("webhook of job %s", delivery.job.id)
            failure = WebhookFailed(f"internal error: {type(error).__name__}")
        finally:
            _one_less(self._hosts, delivery.host)
            _one_less(self._tenants, delivery.job.tenant)
        self._failpoints.pass_by("jobs-webhook")
        ended = DeliveryEnded(delivery.number, delivery.epoch, DeliveryState.DELIVERED, 0, "")
        if failure is not None:
            ended = after_failure(delivery, failure, self._policy, self._store.now_us(), drawn)
            if ended.state is DeliveryState.GIVEN_UP:
                # Not its URL, which may hold a secret.
                log.warning("webhook of job %s, %s: given up: %s", delivery.job.id, delivery.host, failure)
        try:
            await self._store.call(END_DELIVERIES, ended)
        except PenstockError as error:
            # Its lease will be over, and it is told again: at least once is what was promised.
            log.warning("webhook of job %s: %s", delivery.job.id, error)
        self._woken.set()

    async def _send(self, delivery: Delivery) -> None:
        """Raises `WebhookFailed`."""
        if self._secret is None:
            raise WebhookFailed(UNSIGNED)
        view = msgspec.structs.replace(delivery.job.view(), webhook=None)
        body = msgspec.json.encode(view)
        headers = self._secret.headers(delivery.job.id, int(self._clock.now().timestamp()), body)
        await self._sender.send(delivery.url, headers, body, delivery.job.tenant)


def after_failure(
    delivery: Delivery, failure: WebhookFailed, policy: JobPolicy, now_us: int, drawn: float
) -> DeliveryEnded:
    """What becomes of a webhook that was not told: it is tried again later, or given up."""
    number, epoch = delivery.number, delivery.epoch
    if failure.final or delivery.attempts >= policy.attempts_max:
        return DeliveryEnded(number, epoch, DeliveryState.GIVEN_UP, 0, str(failure))
    due_us = now_us + int(pause_s(policy, delivery.attempts, drawn) * SECOND_US)
    return DeliveryEnded(number, epoch, DeliveryState.PENDING, due_us, str(failure))


def _one_less(counts: Counter[str], name: str) -> None:
    counts[name] -= 1
    if not counts[name]:
        del counts[name]
