from typing import Any

import pytest

from penstock import App, Breaker, Health, Signature, cached, constant, heuristic
from penstock.core.errors import ConfigurationError, InvalidInput
from penstock.serving.fallback.rungs import Backup, Cached, Constant

SIGNATURE = Signature.of(inputs={"x": "FP32[-1]"}, outputs={"y": "FP32[-1]"})


def test_a_ladder_as_it_is_declared() -> None:
    app = App("demo")
    rough = heuristic(dict, timeout_ms=5)
    declared = app.model("a", fallback=[cached(max_age="10m"), "b", rough, constant(y=0.5)], breaker=Breaker())
    assert declared.fallback == (Cached(max_age_s=600.0), Backup(name="b"), rough, Constant(values={"y": 0.5}))
    assert declared.breaker == Breaker(failure_share=0.5)
    with pytest.raises(ConfigurationError, match="model 'a' falls back to 'b', which the app does not declare"):
        app.check()
    app.callable("b", signature=SIGNATURE, fallback=[constant(y=1)])(lambda inputs: inputs)
    app.check()
    assert App("empty").model("c").fallback == ()


@pytest.mark.parametrize(
    ("fallback", "said"),
    [
        ("b", "fallback is 'b', not a list"),
        (5, "fallback is 5, not a list"),
        ([5], "5 is no rung"),
        ([dict], "is no rung"),
        (["a"], "cannot be its own fallback"),
        (["constant"], "no backup model can be called 'constant'"),
        (["b", "b"], "rung 'b' stands twice"),
        ([cached(1), cached(2)], "rung 'cached' stands twice"),
        ([f"m{number}" for number in range(9)], "9 rungs, where 8 may be"),
    ],
)
def test_what_is_no_ladder(fallback: Any, said: str) -> None:
    app = App("demo")
    with pytest.raises(ConfigurationError, match="model 'a'") as caught:
        app.model("a", fallback=fallback)
    assert said in caught.value.message
    with pytest.raises(ConfigurationError):
        app.callable("a", signature=SIGNATURE, fallback=fallback)
    assert app.declarations == ()


def test_a_backup_has_a_models_name() -> None:
    with pytest.raises(InvalidInput, match="cannot name a model"):
        App("demo").model("a", fallback=["No Name"])


@pytest.mark.parametrize("age", ["soon", 0, -1, "0s", None, True, float("nan"), float("inf"), "99999d"])
def test_ages_that_cannot_be(age: Any) -> None:
    with pytest.raises(ConfigurationError):
        cached(max_age=age)


@pytest.mark.parametrize(
    "wrong",
    [
        {"every": "often"},
        {"every": -1},
        {"failures": 0},
        {"latency_ms": 0},
        {"latency_ms": float("nan")},
        {"inputs": {"x": [1]}},
        {"outputs": {"y": [1]}},
    ],
)
def test_health_checks_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Health(**wrong)


def test_health_checks() -> None:
    assert Health().every_s is None
    assert Health(every="30s", failures=1, latency_ms=5.0).every_s == 30.0
    assert Health(every=0).every_s == 0.0
