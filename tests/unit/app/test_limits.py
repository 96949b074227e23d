"""Limits of the app file and of the control database together, and memory that workers share."""

import asyncio
import contextlib
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from penstock.app.declarations import App
from penstock.app.limits import LimitsFollower, make_limits, make_rights, open_buckets, shared_buckets
from penstock.app.stored_limits import StoredLimits
from penstock.core.clock import ManualClock
from penstock.core.errors import ConfigurationError, InvalidInput, NotFound
from penstock.core.settings import AdmissionSettings, LimitsSettings, Settings
from penstock.observe.metrics import MetricSet
from penstock.serving.admission.rate_limits import RateLimits
from penstock.serving.admission.rates.buckets import BucketTable
from penstock.serving.admission.rates.rule import RateLimit, RateRule

KEY = "acme-0123456789abcdef"


def rule(per_second: float, **scope: str) -> RateRule:
    return RateRule(limit=RateLimit(per_second=per_second, burst=2), **scope)


def limits_of(app: App, settings: Settings) -> RateLimits:
    return make_limits(app, settings, MetricSet(), ManualClock(), BucketTable())


def follow(follower: LimitsFollower) -> None:
    asyncio.run(follower.start())


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=str(tmp_path / "home"))


def test_what_is_set_goes_before_what_is_declared_until_it_is_removed(settings: Settings) -> None:
    app = App("flights")
    app.limit(RateLimit(per_second=1, burst=1), model="late")
    limits = limits_of(app, settings)
    follower = LimitsFollower(app, settings, limits)
    with contextlib.closing(follower):
        follow(follower)
        assert limits.statistics().rules == 1
        stored = StoredLimits.open(settings.database_url)
        stored.set(RateRule(limit=RateLimit(per_second=1, burst=3), model="late"))
        follow(follower)
        assert [limits.admit("acme", "late", 0.0) == 0.0 for _ in range(4)] == [True, True, True, False]
        stored.remove(tenant=None, model="late")
        follow(follower)
        assert limits.statistics().rules == 1
        assert limits.admit("other", "late", 0.0) == 0.0
        assert limits.admit("other", "late", 0.0) > 0.0
        stored.close()


def test_an_app_without_a_registry_is_given_no_database(settings: Settings) -> None:
    app = App("flights")
    follower = LimitsFollower(app, settings, limits_of(app, settings))
    follow(follower)
    assert not Path(settings.home).exists()


def test_while_the_database_cannot_be_read_the_limits_stay(settings: Settings, caplog: Any) -> None:
    app = App("flights")
    limits = limits_of(app, settings)
    follower = LimitsFollower(app, settings, limits)
    stored = StoredLimits.open(settings.database_url)
    stored.set(rule(1.0))
    stored.close()
    with contextlib.closing(follower):
        follow(follower)
        with sqlite3.connect(Path(settings.home) / "control.db") as connection:
            connection.execute("ALTER TABLE rate_limits RENAME TO gone")
        connection.close()
        follow(follower)
        follow(follower)
    assert limits.statistics().rules == 1
    assert caplog.text.count("stay as they are") == 1


def test_what_is_stored_comes_back(settings: Settings) -> None:
    stored = StoredLimits.open(settings.database_url)
    with contextlib.closing(stored):
        given = [
            rule(1.5),
            rule(2.0, model="late"),
            rule(3.0, tenant="acme"),
            rule(4.0, tenant="acme", model="late"),
        ]
        for each in reversed(given):
            stored.set(each)
        assert list(stored.rules()) == given
        stored.set(rule(9.0, model="late"))
        assert stored.rules()[1] == rule(9.0, model="late")
        stored.remove(tenant="acme", model=None)
        with pytest.raises(NotFound, match="tenant 'acme' and any model"):
            stored.remove(tenant="acme", model=None)
        with pytest.raises(InvalidInput):
            stored.set(rule(1.0, tenant="A b"))
        with pytest.raises(InvalidInput):
            stored.set(rule(1.0, model="../x"))


def test_rows_of_somebody_else_that_are_no_limits_are_left_out(settings: Settings) -> None:
    stored = StoredLimits.open(settings.database_url)
    with contextlib.closing(stored):
        stored.set(rule(1.0))
        with sqlite3.connect(Path(settings.home) / "control.db") as connection:
            connection.execute("INSERT INTO rate_limits VALUES ('acme', '', -1, 5, 'requests')")
            connection.execute("INSERT INTO rate_limits VALUES ('acme', 'late', 1, 5, 'bytes')")
        connection.close()
        assert stored.rules() == (rule(1.0),)


def test_declarations_that_cannot_be() -> None:
    app = App("flights")
    app.limit(RateLimit(per_second=1), tenant="acme", model="late")
    with pytest.raises(ConfigurationError, match="tenant 'acme' and model 'late'"):
        app.limit(RateLimit(per_second=2), tenant="acme", model="late")
    with pytest.raises(ConfigurationError, match="not a RateLimit"):
        app.limit(100)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput):
        app.limit(RateLimit(per_second=2), tenant="Not A Name")
    with pytest.raises(InvalidInput):
        app.limit(RateLimit(per_second=2), model="Not A Name")
    for keys in (KEY, [], ["short"]):
        with pytest.raises(InvalidInput) as caught:
            app.tenant("acme", keys=keys)
        assert KEY not in caught.value.message
    with pytest.raises(InvalidInput, match="a key is None") as caught:
        app.tenant("acme", keys=[os.getenv("UNSET_HERE")])  # type: ignore[list-item]
    assert "not set" in str(caught.value.hint)


def test_tenants_of_the_app_are_known_by_their_keys(settings: Settings) -> None:
    app = App("flights")
    app.tenant("acme", keys=[KEY])
    app.limit(RateLimit(per_second=1))
    limits = limits_of(app, settings)
    assert limits.identify({b"x-api-key": KEY.encode()}, b"1.2.3.4") == "acme"


def test_proxies_that_are_none_are_said(settings: Settings) -> None:
    wrong = Settings(home=settings.home, limits=LimitsSettings(trusted_proxies="balancer"))
    with pytest.raises(ConfigurationError, match="balancer"):
        limits_of(App("flights"), wrong)


@pytest.mark.parametrize(
    ("setting", "classes"),
    [("*", [1, 1]), (" * ", [1, 1]), ("", [2, 2]), ("acme", [1, 2]), (" acme , other ", [1, 1])],
)
def test_who_may_name_the_highest_class(settings: Settings, setting: str, classes: list[int]) -> None:
    app = App("flights")
    keys = {name: f"{name}-0123456789abcdef" for name in ("acme", "other")}
    for name, key in keys.items():
        app.tenant(name, keys=[key])
    given = Settings(home=settings.home, admission=AdmissionSettings(critical_plus=setting))
    rights = make_rights(app, given, limits_of(app, given), MetricSet())
    found = [
        1 if rights is None else rights.of({b"x-api-key": key.encode()}, b"1.2.3.4").highest
        for key in keys.values()
    ]
    assert found == classes
    assert (rights is None) == ("*" in setting), "where all are equal, nobody is looked up"


@pytest.mark.parametrize("setting", ["acmee", "acme,*", "@10.0.0.1"])
def test_a_privileged_tenant_that_the_app_does_not_know(settings: Settings, setting: str) -> None:
    app = App("flights")
    app.tenant("acme", keys=[KEY])
    given = Settings(home=settings.home, admission=AdmissionSettings(critical_plus=setting))
    with pytest.raises(ConfigurationError, match=r"critical_plus.*no tenant of app 'flights'"):
        make_rights(app, given, limits_of(app, given), MetricSet())


def test_memory_for_buckets_is_shared_and_goes_with_its_owner() -> None:
    limit = RateLimit(per_second=1, burst=1)
    with shared_buckets() as descriptor:
        one, other = open_buckets(os.dup(descriptor)), open_buckets(os.dup(descriptor))
        assert one.take(5, 1.0, limit, 0.0) == 0.0
        assert other.take(5, 1.0, limit, 0.0) == 1.0
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
