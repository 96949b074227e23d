"""The claims of the surge: each is judged by the worst of what was measured, and only by what was measured."""

from types import SimpleNamespace

from benchmarks.surge.goodput import Measured, result
from benchmarks.surge.judge import Capacity
from benchmarks.surge.trial import Surge
from surge_reports import seen, seen_class, seen_phase

BENCH = SimpleNamespace(models={name: SimpleNamespace(facts=dict) for name in ("0.3ms", "3ms", "10ms")})


def surge(
    times: float,
    ratio: float,
    *,
    top_good: int = 100,
    recovered_s: float | None = 0.2,
    lag_late: int = 0,
    calm_good: int = 100,
):
    classes = (
        seen_class("CRITICAL_PLUS", arrivals=100, good=top_good),
        seen_class(arrivals=1000, good=200, p99_ms=80.0 + times),
    )
    return Surge(
        times=times,
        ratio=ratio,
        capacity_rps=300.0,
        seen=seen(
            [],
            seen_phase("calm", seen_class(arrivals=100, good=calm_good)),
            seen_phase("surge", *classes, lag_late=lag_late),
            seen_phase("after", seen_class(arrivals=300, good=270)),
        ),
        recovered_s=recovered_s,
        after_s=4.0,
        cpu_s=1.0,
        growth_mb=times / 2,
    )


def measured(model: str, *surges: Surge) -> Measured:
    by_times: dict[float, list[Surge]] = {}
    for each in surges:
        by_times.setdefault(each.times, []).append(each)
    capacity = Capacity(rps=300.0, in_flight=4, answer_us=3000.0, p50_ms=10.0, p99_ms=20.0)
    return Measured(model=model, capacity=capacity, surges=by_times, untimed=None)


def claims(*models: Measured) -> dict[str, float | None]:
    return {claim.name: claim.value for claim in result(BENCH, models).claims}


def test_the_worst_of_the_slow_models_stands_for_them():
    found = claims(
        measured("0.3ms", surge(2, 0.99), surge(10, 0.72)),
        measured("3ms", surge(2, 1.00), surge(5, 0.98, top_good=99), surge(10, 0.98)),
        measured("10ms", surge(2, 0.985), surge(5, 0.98), surge(10, 0.971)),
    )

    assert found == {
        "goodput_10x": 0.971,
        "goodput_10x_1ms": None,
        "goodput_10x_0.3ms": 0.72,
        "goodput_2x": 0.985,
        "critical_plus_5x": 0.99,
        "admitted_p99_ms": 90.0,
        "recovery_s": 0.2,
        "growth_mb": 5.0,
    }


def test_of_what_was_repeated_the_median_counts_and_the_most_important_class_over_all():
    found = claims(
        measured(
            "3ms",
            *(surge(10, ratio) for ratio in (0.5, 0.98, 0.99)),
            *(surge(5, 0.9, top_good=good) for good in (100, 100, 70)),
        )
    )

    assert found["goodput_10x"] == 0.98
    assert found["critical_plus_5x"] == 0.9


def test_what_never_became_normal_is_as_long_as_was_looked():
    found = result(BENCH, [measured("3ms", surge(10, 0.9, recovered_s=None))])

    recovery = next(claim for claim in found.claims if claim.name == "recovery_s")
    assert recovery.value == 4.0
    assert recovery.met is False


def test_a_generator_at_its_limit_is_remarked_on():
    found = result(BENCH, [measured("3ms", surge(2, 0.9), surge(10, 0.9, lag_late=50))])

    (remark,) = found.remarks
    assert "3ms at 10×: the generator was at its limit" in remark


def test_what_was_not_normal_before_the_surge_either_is_remarked_on():
    calm, poor = surge(10, 0.9, calm_good=99), surge(10, 0.9, calm_good=98)

    found = result(BENCH, [measured("3ms", calm, poor)])

    (remark,) = found.remarks
    assert "3ms at 10×: it was not normal before the surge either: 0.980" in remark
    facts = [each["calm_good_share"] for each in found.facts["3ms"]["surges"]["10"]]
    assert facts == [0.99, 0.98]
    assert poor.facts()["after_good_share"] == 0.9
