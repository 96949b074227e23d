from typing import Any

import pytest

from penstock import App, Cache, Objective, Signature
from penstock.app.model_declarations import CallableDeclaration, ModelDeclaration
from penstock.core.errors import ConfigurationError

SIGNATURE = Signature.of(inputs={"x": "FP32[-1]"}, outputs={"y": "FP32[-1]"})


def test_declarations_in_their_order() -> None:
    app = App("demo")
    first = app.model("a", alias="canary", objective=Objective(latency_ms=5), batch_rows_max=8)
    second = app.model("b", version=3)

    @app.callable("c", signature=SIGNATURE)
    def target(inputs: object) -> object:
        return inputs

    assert app.declarations[:2] == (first, second)
    third = app.declarations[2]
    assert isinstance(third, CallableDeclaration)
    assert third.target is target  # the decorator gives back what it got
    assert (third.name, third.signature, third.batch_rows_max) == ("c", SIGNATURE, None)
    assert first == ModelDeclaration(
        name="a", alias="canary", version=None, objective=Objective(latency_ms=5), batch_rows_max=8
    )
    assert (second.alias, second.version, second.objective) == ("champion", 3, Objective())
    assert App("empty").declarations == ()


def test_a_name_stands_once() -> None:
    app = App("demo")
    app.model("a")
    with pytest.raises(ConfigurationError, match="app 'demo' declares model 'a' twice"):
        app.model("a", alias="canary")
    with pytest.raises(ConfigurationError, match="twice"):
        app.callable("a", signature=SIGNATURE)(lambda inputs: inputs)
    assert len(app.declarations) == 1


@pytest.mark.parametrize("rows", [0, -1])
def test_a_bound_that_bounds_nothing(rows: int) -> None:
    app = App("demo")
    with pytest.raises(ConfigurationError, match=f"batch_rows_max is {rows}"):
        app.model("a", batch_rows_max=rows)
    assert app.declarations == ()
    assert app.model("a", batch_rows_max=1).batch_rows_max == 1


@pytest.mark.parametrize("version", ["1", 1.0, True, 0, -1, 2**31, "x" * 100_000])
def test_a_version_is_a_number(version: Any) -> None:
    with pytest.raises(ConfigurationError, match="not a version's number") as raised:
        App("a").model("coll", version=version)
    assert len(str(raised.value)) < 200
    assert App("a").model("coll", version=1).version == 1


@pytest.mark.parametrize(
    "said",
    [
        {"ttl": "soon"},
        {"ttl": 0},
        {"ttl": -1},
        {"ttl": "10m", "stale": -1},
        {"ttl": "10m", "stale": None},
        {"ttl": float("nan")},
        {"ttl": float("inf")},
        {"ttl": "31d"},
        {"ttl": True},
        {"ttl": "9" * 100_000},
    ],
)
def test_caches_that_cannot_work(said: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"of a cache is|a cache with ttl") as raised:
        Cache(**said)
    assert len(str(raised.value)) < 250


def test_caches() -> None:
    app = App("a")
    declared = app.model("coll", cache=Cache(ttl="10m", stale="1h"))
    assert declared.cache is not None
    assert (declared.cache.config.ttl_s, declared.cache.config.stale_s) == (600, 3600)
    assert app.model("plain").cache is None
    app.callable("c", signature=SIGNATURE, cache=Cache(ttl=5))(lambda inputs: inputs)
    assert app.declarations[2].cache == Cache(ttl=5)
    with pytest.raises(ConfigurationError, match="cache is '10m', not a Cache"):
        App("a").model("coll", cache="10m")  # type: ignore[arg-type]
