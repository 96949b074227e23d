"""Each figure of the generator, alone, is enough to doubt the others."""

import msgspec
import pytest

from penstock.drills.surge.limits import GeneratorFigures, limits_met

FINE = GeneratorFigures(
    processes=2,
    connections=2000,
    lateness_p50_ms=0.5,
    lateness_p99_ms=2.0,
    lateness_max_ms=30.0,
    processor_share=0.6,
    loop_lag_max_ms=20.0,
    unsent_share=0.0,
    connections_needed=1000,
    reconnects=0,
)


def test_one_that_kept_up_is_trusted() -> None:
    assert limits_met(FINE) == ()


def test_connections_that_a_slow_server_holds_are_not_the_generators_limit() -> None:
    assert limits_met(msgspec.structs.replace(FINE, unsent_share=0.3)) == ()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"lateness_p99_ms": 21.0}, "late"),
        ({"processor_share": 0.96}, "core"),
        ({"loop_lag_max_ms": 251.0}, "stood still"),
        ({"unsent_share": 0.002, "connections": 999}, "connections 1000"),
        ({"connections_failed": 1}, "could not be opened"),
    ],
)
def test_what_makes_it_the_limit(change: dict[str, float], word: str) -> None:
    (told,) = limits_met(msgspec.structs.replace(FINE, **change))
    assert word in told
