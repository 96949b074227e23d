"""The rules, the tenants and the buckets together, with time passed in."""

import pytest

from penstock.core.clock import ManualClock
from penstock.core.errors import QuotaExceeded, TooLarge
from penstock.observe.metrics import MetricSet
from penstock.serving.admission.rate_limits import LABELS_MAX, PLACES_MAX, RateLimits
from penstock.serving.admission.rates.rule import RateLimit, RateRule
from penstock.serving.admission.rates.tenants import ApiKeys, Tenants

KEY = "acme-0123456789abcdef"


def make(*rules: RateRule) -> tuple[RateLimits, MetricSet]:
    keys, metrics = ApiKeys(b"s" * 32), MetricSet()
    keys.add("acme", KEY)
    limits = RateLimits(Tenants(keys), metrics, ManualClock())
    limits.set_rules(rules)
    return limits, metrics


def rule(per_second: float, burst: float = 1.0, *, unit: str = "requests", **scope: str) -> RateRule:
    return RateRule(limit=RateLimit(per_second=per_second, burst=burst, unit=unit), **scope)  # type: ignore[arg-type]


def test_without_limits_nobody_is_told_apart() -> None:
    limits, _ = make()
    assert not limits.active
    assert limits.identify({b"x-api-key": KEY.encode()}, b"1.2.3.4") is None


def test_each_tenant_and_each_model_has_a_bucket() -> None:
    limits, _ = make(rule(1.0))
    for tenant in ("acme", "@1.2.3.4"):
        for model in ("late", "early"):
            assert limits.admit(tenant, model, 0.0) == 0.0
            assert limits.admit(tenant, model, 0.0) == 1.0
    assert limits.admit("acme", "late", 1.0) == 0.0


def test_a_limit_for_one_model_leaves_the_others_alone() -> None:
    limits, _ = make(rule(1.0, model="late"))
    assert limits.admit("acme", "late", 0.0) == 0.0
    assert limits.admit("acme", "late", 0.0) > 0.0
    assert all(limits.admit("acme", "early", 0.0) == 0.0 for _ in range(10))


def test_no_rule_for_a_name_can_be_had_by_an_address() -> None:
    limits, _ = make(rule(1000.0, 1000.0, tenant="acme"), rule(1.0))
    assert limits.admit("@1.2.3.4", "late", 0.0) == 0.0
    assert limits.admit("@1.2.3.4", "late", 0.0) > 0.0
    assert all(limits.admit("acme", "late", 0.0) == 0.0 for _ in range(1000))


def test_requests_are_charged_once() -> None:
    limits, _ = make(rule(1.0, 2.0))
    assert limits.admit("acme", "late", 0.0) == 0.0
    limits.charge("acme", "late", 500, 0.0, counted=True)
    limits.charge("acme", "late", 500, 0.0, counted=False)
    with pytest.raises(QuotaExceeded) as caught:
        limits.charge("acme", "late", 1, 0.0, counted=False)
    assert caught.value.retry_after_s == 1.0


def test_rows_are_charged_when_they_are_known() -> None:
    limits, _ = make(rule(10.0, 100.0, unit="rows"))
    assert limits.admit("acme", "late", 0.0) == 0.0
    limits.charge("acme", "late", 100, 0.0, counted=True)
    assert limits.admit("acme", "late", 0.0) == pytest.approx(0.1)
    with pytest.raises(QuotaExceeded) as caught:
        limits.charge("acme", "late", 20, 0.0, counted=True)
    assert caught.value.retry_after_s == pytest.approx(2.0)
    limits.charge("acme", "late", 20, 2.0, counted=True)


def test_more_rows_than_ever_pass_are_too_many() -> None:
    limits, _ = make(rule(10.0, 100.0, unit="rows"))
    with pytest.raises(TooLarge, match="101 rows; the rate limit lets 100 pass at once"):
        limits.charge("acme", "late", 101, 0.0, counted=True)
    limits.charge("acme", "late", 100, 0.0, counted=True)
    assert limits.burst_rows("acme", "late") == 100.0


def test_rules_that_change_hold_at_once_and_give_nothing_away() -> None:
    limits, _ = make(rule(1.0, 10.0))
    for _ in range(10):
        assert limits.admit("acme", "late", 0.0) == 0.0
    assert limits.set_rules([rule(1.0, 5.0)])
    assert limits.admit("acme", "late", 0.0) > 0.0
    assert limits.set_rules([])
    assert limits.admit("acme", "late", 0.0) == 0.0
    assert not limits.set_rules([])


def test_what_is_refused_is_counted_by_model_and_name() -> None:
    limits, metrics = make(rule(0.01))
    for tenant in ("acme", "@1.2.3.4", "@5.6.7.8", "#0123"):
        limits.admit(tenant, "late", 0.0)
        limits.admit(tenant, "late", 0.0)
    assert limits.statistics().refused == {("late", "acme"): 1, ("late", "other"): 3}
    text = metrics.render()
    assert 'penstock_quota_refused_total{model="late",tenant="acme"} 1' in text
    assert 'penstock_quota_refused_total{model="late",tenant="other"} 3' in text
    assert "1.2.3.4" not in text


def test_labels_and_places_are_bounded() -> None:
    limits, _ = make(rule(0.01))
    for number in range(PLACES_MAX + 10):
        tenant = f"t{number}"
        limits.admit(tenant, "late", 0.0)
        limits.admit(tenant, "late", 0.0)
    assert len(limits._places) <= PLACES_MAX
    refused = limits.statistics().refused
    assert len(refused) <= LABELS_MAX + 1
    assert sum(refused.values()) == PLACES_MAX + 10
