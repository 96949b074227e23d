from typing import Any

import pytest

from penstock import App, Objective, Signature
from penstock.core.errors import ConfigurationError

SIGNATURE = Signature.of(inputs={"x": "FP32[-1]"}, outputs={"y": "FP32[-1]"})


@pytest.mark.parametrize(
    "promised",
    [
        {"latency_ms": 0},
        {"latency_ms": -5},
        {"latency_ms": float("nan")},
        {"availability": 0},
        {"availability": 1},
        {"availability": float("nan")},
    ],
)
def test_objectives_that_cannot_be_kept(promised: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match="objective"):
        Objective(**promised)


def test_objectives() -> None:
    assert (Objective().latency_ms, Objective().availability) == (100.0, 0.999)
    assert Objective(latency_ms=0.5, availability=0.9) == Objective(latency_ms=0.5, availability=0.9)


def test_an_apps_objective_is_that_of_what_has_none_of_its_own() -> None:
    wide, narrow = Objective(latency_ms=10_000), Objective(latency_ms=5)
    app = App("demo", objective=wide)
    assert app.model("a").objective == wide
    assert app.model("b", objective=narrow).objective == narrow
    app.callable("c", signature=SIGNATURE)(lambda inputs: inputs)
    app.callable("d", signature=SIGNATURE, objective=narrow)(lambda inputs: inputs)
    assert [each.objective for each in app.declarations[2:]] == [wide, narrow]
    assert App("plain").objective == App("plain").model("a").objective == Objective()


@pytest.mark.parametrize("objective", [50, 0, "50ms", {"latency_ms": 50}, Objective])
def test_what_is_no_objective(objective: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"app 'demo': objective is .*, not an Objective"):
        App("demo", objective=objective)
    app = App("demo")
    with pytest.raises(ConfigurationError, match=r"model 'a': objective is .*, not an Objective"):
        app.model("a", objective=objective)
    with pytest.raises(ConfigurationError, match=r"model 'a': objective is .*, not an Objective"):
        app.callable("a", signature=SIGNATURE, objective=objective)
    assert app.declarations == ()
