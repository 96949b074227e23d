"""What limits can be about: what is said of names that nothing knows, and which limits hold."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.app.known_limits import KnownApp, check_model, known_apps, shown_limits, tenant_doubts
from penstock.app.loading import MODULE_NAME
from penstock.core.errors import ConfigurationError, NotFound
from penstock.core.settings import Settings
from penstock.serving.admission.rates.rule import RateLimit, RateRule
from penstock.supervision.messages import Declared

APP = """
import penstock as ps
app = ps.App("flights")
app.model("late")
app.tenant("acme", keys=["acme-0123456789abcdef"])
app.limit(ps.RateLimit(per_second=5), model="late")
"""


@pytest.fixture(autouse=True)
def _imports_are_forgotten() -> Iterator[None]:
    path = list(sys.path)
    yield
    sys.path[:] = path
    sys.modules.pop(MODULE_NAME, None)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=str(tmp_path / "home"))


def rule(per_second: float, **scope: str) -> RateRule:
    return RateRule(limit=RateLimit(per_second=per_second), **scope)


FLIGHTS = KnownApp(
    "app.py",
    Declared(models=("late",), tenants=("acme",), limits=(rule(5, model="late"), rule(6, tenant="acme"))),
)


def doubts(tenant: str, *apps: KnownApp) -> str:
    return "\n".join(tenant_doubts(tenant, apps))


def test_an_app_file_is_read(tmp_path: Path, settings: Settings) -> None:
    file = tmp_path / "app.py"
    file.write_text(APP)
    (known,) = known_apps(str(file), settings)
    assert known == (str(file), Declared(models=("late",), tenants=("acme",), limits=(rule(5, model="late"),)))
    with pytest.raises(ConfigurationError, match="no such file"):
        known_apps(str(tmp_path / "none.py"), settings)


def test_without_a_file_and_a_server_nothing_is_known_and_nothing_made(settings: Settings) -> None:
    assert known_apps(None, settings) == ()
    with pytest.raises(
        NotFound, match="neither the registry nor a running server has a model 'late'"
    ) as caught:
        check_model("late", (), settings)
    assert "--app" in str(caught.value.hint)
    assert "--force" in str(caught.value.hint)
    assert not Path(settings.home).exists()


def test_what_was_set_stands_in_the_place_of_what_is_declared_for_the_same() -> None:
    stored = (rule(1), rule(7, model="late"))
    shown = [
        (each.tenant, each.model, each.limit.per_second, each.origin, each.holds)
        for each in shown_limits(stored, (FLIGHTS,))
    ]
    assert shown == [
        (None, None, 1, "set", True),
        (None, "late", 7, "set", True),
        (None, "late", 5, "app.py", False),
        ("acme", None, 6, "app.py", True),
    ]


def test_a_model_that_is_mistyped_is_told_with_the_one_that_was_meant(settings: Settings) -> None:
    check_model("late", (FLIGHTS,), settings)
    with pytest.raises(NotFound, match=r"nor app\.py has a model 'lat'") as caught:
        check_model("lat", (FLIGHTS,), settings)
    assert caught.value.hint == "did you mean 'late'? --force sets it all the same"


def test_a_tenant_that_is_mistyped_is_told_with_those_that_there_are() -> None:
    assert doubts("acme", FLIGHTS) == ""
    assert "app.py has no tenant 'acne'" in doubts("acne", FLIGHTS)
    assert "did you mean 'acme'? it has acme" in doubts("acne", FLIGHTS)
    assert "app.tenant(name, keys=[...]) makes one" in doubts("acne", KnownApp("app.py", Declared()))
    many = Declared(tenants=tuple(f"tenant-{number:02}" for number in range(30)))
    assert doubts("other", KnownApp("app.py", many)).endswith("tenant-08, tenant-09, …")
    assert "no server runs" in doubts("acme")
