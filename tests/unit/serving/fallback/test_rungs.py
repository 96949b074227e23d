import math
from collections.abc import Callable
from typing import Any

import pytest

from penstock.core.errors import ConfigurationError
from penstock.serving.fallback.rungs import Cached, Constant, Heuristic


@pytest.mark.parametrize(
    "declare",
    [
        lambda: Cached(max_age_s=0.0),
        lambda: Cached(max_age_s=-1.0),
        lambda: Cached(max_age_s=math.nan),
        lambda: Cached(max_age_s=math.inf),
        lambda: Constant(values={}),
        lambda: Heuristic(function="f"),  # type: ignore[arg-type]
        lambda: Heuristic(function=dict, timeout_ms=0),
        lambda: Heuristic(function=dict, timeout_ms=math.inf),
        lambda: Heuristic(function=dict, timeout_ms=math.nan),
        lambda: Heuristic(function=dict, concurrency=0),
    ],
)
def test_rungs_that_cannot_be(declare: Callable[[], Any]) -> None:
    with pytest.raises(ConfigurationError):
        declare()


def test_their_names() -> None:
    rungs = (Cached(max_age_s=1.0), Constant(values={"y": 1}), Heuristic(function=dict))
    assert [rung.name for rung in rungs] == ["cached", "constant", "heuristic"]
