"""Which limits can be, and which of several holds."""

import itertools
import math
from typing import Any

import pytest

from penstock.core.errors import InvalidInput
from penstock.serving.admission.rates.rule import RateLimit, RateRule, RuleBook, check_tenant_name

HUGE = 10**400


@pytest.mark.parametrize(
    ("facts", "where"),
    [
        ({"per_second": 0}, "per_second"),
        ({"per_second": -1.0}, "per_second"),
        ({"per_second": math.nan}, "per_second"),
        ({"per_second": math.inf}, "per_second"),
        ({"per_second": HUGE}, "per_second"),
        ({"per_second": 1e10}, "per_second"),
        ({"per_second": "100"}, "per_second"),
        ({"per_second": True}, "per_second"),
        ({"per_second": 1, "burst": 0}, "burst"),
        ({"per_second": 1, "burst": 0.0}, "burst"),
        ({"per_second": 1, "burst": 0.5}, "burst"),
        ({"per_second": 1, "burst": -3}, "burst"),
        ({"per_second": 1, "burst": math.nan}, "burst"),
        ({"per_second": 1, "burst": math.inf}, "burst"),
        ({"per_second": 1e-9}, "burst"),  # a token in 31 years
        ({"per_second": 1, "burst": 1e6}, "burst"),
        ({"per_second": 1, "unit": "bytes"}, "unit"),
    ],
)
def test_nonsense_is_refused(facts: dict[str, Any], where: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        RateLimit(**facts)
    assert caught.value.where == where


def test_a_burst_that_is_not_said_is_that_of_a_second() -> None:
    assert RateLimit(per_second=100).burst == 100.0
    assert RateLimit(per_second=0.5).burst == 1.0
    assert RateLimit(per_second=5, burst=7) == RateLimit(per_second=5.0, burst=7.0)


def test_the_most_specific_limit_holds() -> None:
    """Every set of the four scopes: the first of them, in the order that is promised, is the one."""
    order = [("acme", "late"), ("acme", None), (None, "late"), (None, None)]
    limits = [RateLimit(per_second=number) for number in (1, 2, 3, 4)]
    for chosen in itertools.product([False, True], repeat=4):
        standing = [(scope, limit) for scope, limit, there in zip(order, limits, chosen, strict=True) if there]
        book = RuleBook(
            RateRule(limit=limit, tenant=tenant, model=model) for (tenant, model), limit in reversed(standing)
        )
        assert book.find("acme", "late") == (standing[0][1] if standing else None)
        assert bool(book) == bool(standing)


def test_limits_of_others_do_not_hold() -> None:
    book = RuleBook(
        [
            RateRule(limit=RateLimit(per_second=1), tenant="acme", model="late"),
            RateRule(limit=RateLimit(per_second=2), tenant="acme"),
        ]
    )
    assert book.find("other", "late") is None
    assert book.find(None, "late") is None
    assert book.find("acme", "early") == RateLimit(per_second=2)


def test_of_two_for_the_same_the_last_holds() -> None:
    book = RuleBook([RateRule(limit=RateLimit(per_second=1)), RateRule(limit=RateLimit(per_second=2))])
    assert book.find(None, "late") == RateLimit(per_second=2)


@pytest.mark.parametrize("name", ["", "A", "@1.2.3.4", "#ab", "a" * 129, "a b", "-a", "a\n", "é", None, 3])
def test_names_that_no_tenant_can_have(name: object) -> None:
    with pytest.raises(InvalidInput):
        check_tenant_name(name)


def test_names_that_a_tenant_can_have() -> None:
    for name in ("acme", "0", "a.b_c-d", "a" * 128):
        check_tenant_name(name)
