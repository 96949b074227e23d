import asyncio
from contextlib import suppress
from datetime import UTC, datetime

import pytest

from penstock.core.clock import ManualClock
from penstock.core.failpoints import failpoints_of
from penstock.serving.jobs.courier import Courier, after_failure
from penstock.serving.jobs.delivering import DeliveriesWanted, Delivery, DeliveryEnded
from penstock.serving.jobs.job import DeliveryState, JobRecord, JobState, to_us
from penstock.serving.jobs.life import JobPolicy
from penstock.serving.jobs.reading import Due
from penstock.serving.jobs.webhook_names import Names
from penstock.serving.jobs.webhook_sender import WebhookFailed, WebhookSender

POLICY = JobPolicy(attempts_max=3, first_s=1.0, longest_s=600.0, lease_s=10.0, kept_s=60.0)
NOW_US = to_us(datetime(2026, 1, 1, tzinfo=UTC))


def delivery(attempts: int) -> Delivery:
    job = JobRecord("id", "@", "m", JobState.DONE, 1, False, "", 0, None, None, None)
    return Delivery(7, 2, attempts, "http://a.example/", "a.example:80", job)


@pytest.mark.parametrize(("attempts", "pause"), [(1, 0.5), (2, 1.0)])
def test_it_is_tried_again_later_and_later(attempts: int, pause: float) -> None:
    ended = after_failure(delivery(attempts), WebhookFailed("it answered 500"), POLICY, NOW_US, 0.0)
    assert (ended.state, ended.error) == (DeliveryState.PENDING, "it answered 500")
    assert ended.due_us - NOW_US == pause * 1_000_000
    assert (ended.number, ended.epoch) == (7, 2)


def test_it_is_given_up_in_the_end_or_where_nothing_can_be_hoped_for() -> None:
    assert after_failure(delivery(3), WebhookFailed("no"), POLICY, NOW_US, 0.0).state is DeliveryState.GIVEN_UP
    final = WebhookFailed("10.0.0.1 is not on the public internet", final=True)
    assert after_failure(delivery(1), final, POLICY, NOW_US, 0.0).state is DeliveryState.GIVEN_UP


class Store:
    """Has one delivery to hand out, and notes what became of it."""

    def __init__(self, due: Delivery) -> None:
        self.given = [due]
        self.ended: asyncio.Future[DeliveryEnded] = asyncio.get_running_loop().create_future()

    @staticmethod
    def now_us() -> int:
        return NOW_US

    async def due(self) -> Due:
        return Due(sweep=False, forget=False, events=False, webhooks=True, alive=False)

    async def call(self, _kind, given):
        if isinstance(given, DeliveriesWanted):
            return [self.given.pop()] if self.given else []
        self.ended.set_result(given)
        return True


@pytest.mark.parametrize(
    ("attempts", "state"), [(1, DeliveryState.PENDING), (POLICY.attempts_max, DeliveryState.GIVEN_UP)]
)
def test_without_a_secret_they_are_given_up_in_time_and_it_is_said_why(
    attempts: int, state: DeliveryState, caplog: pytest.LogCaptureFixture
) -> None:
    secret_url = delivery(attempts)._replace(url="http://a.example/hooks/whose-path-is-secret")

    async def telling() -> DeliveryEnded:
        store = Store(secret_url)
        clock = ManualClock()
        sender = WebhookSender((), 1.0, Names(clock))
        courier = Courier(store, sender, None, POLICY, clock, failpoints_of(None))  # type: ignore[arg-type]
        running = asyncio.ensure_future(courier.run(60.0, lambda: 0.0))
        ended = await store.ended
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        return ended

    ended = asyncio.run(telling())
    assert ended.state is state
    assert "jobs.webhook_secret" in ended.error
    assert "whose-path-is-secret" not in caplog.text
    assert ("a.example:80" in caplog.text) is (state is DeliveryState.GIVEN_UP)
