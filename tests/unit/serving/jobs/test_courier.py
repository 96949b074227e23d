from datetime import UTC, datetime

import pytest

from penstock.serving.jobs.courier import after_failure
from penstock.serving.jobs.delivering import Delivery
from penstock.serving.jobs.job import DeliveryState, JobRecord, JobState, to_us
from penstock.serving.jobs.life import JobPolicy
from penstock.serving.jobs.webhook_sender import WebhookFailed

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
