"""The report's figures against counting by hand."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.drills.surge.drill import Asked
from penstock.drills.surge.limits import GeneratorFigures
from penstock.drills.surge.mix import make_mix
from penstock.drills.surge.recording import Finished, Outcome, Recording
from penstock.drills.surge.report import Measured, Report, make_report
from penstock.drills.surge.shapes import make_shape
from penstock.drills.surge.thresholds import parse_threshold

MIX = make_mix({"CRITICAL": "1", "SHEDDABLE": "1"}, {"acme": "1", "<bolt>": "1"})
SPIKE = make_shape("spike", base_per_s=100, peak_per_s=400, duration_s=9)
FINE = GeneratorFigures(
    processes=1,
    connections=10,
    lateness_p50_ms=0.5,
    lateness_p99_ms=1.0,
    lateness_max_ms=2.0,
    processor_share=0.5,
    loop_lag_max_ms=5.0,
    unsent_share=0.0,
    connections_needed=1000,
    reconnects=0,
)


def finished(at_s: float, kind: int, outcome: Outcome, label: int = 0, attempt: int = 0) -> Finished:
    return Finished(at_s, 0.02 if outcome == Outcome.GOOD else 0.2, 0.0, kind, outcome, label, attempt)


def surge(bad_until_s: float) -> Iterator[Finished]:
    """A hundred a second; from 3 s on, and until this time, three of four are refused."""
    for number in range(900):
        at_s = number / 100 + 0.001
        refused = 3 <= at_s < bad_until_s and number % 4 > 0
        outcome, label = (Outcome.SHED, 1) if refused else (Outcome.GOOD, 2 * (number % 2))
        yield finished(at_s, number % 4, outcome, label, attempt=int(refused))


def report(rows: list[Finished], *require: str, **changed: Any) -> Report:
    recording = Recording(duration_s=9, kinds=4)
    assert (recording.label("queue"), recording.label("cached")) == (1, 2)
    recording.add(rows)
    measured = Measured(
        recording=recording,
        shape=SPIKE,
        mix=MIX,
        generator=msgspec.structs.replace(FINE, **changed.pop("generator", {})),
        capacity_per_s=changed.pop("capacity_per_s", None),
        run_s=changed.pop("run_s", 9.0),
        gave_up=3,
        stopped=changed.pop("stopped", False),
        cut=False,
    )
    known = ("CRITICAL", "SHEDDABLE", "acme", "<bolt>")
    asked = {**msgspec.json.decode(msgspec.json.encode(Asked(url="http://<host>", model="<m>"))), "mix": []}
    return make_report(
        measured,
        tuple(parse_threshold(each, known) for each in require),
        asked,
        about=("0", "now"),
        allow_limited=changed.pop("allow_limited", False),
    )


def test_counts_by_class_tenant_rung_and_reason() -> None:
    made = report(list(surge(bad_until_s=6)))
    assert (made.total.offered, made.total.good, made.total.shed) == (900, 675, 225)
    assert made.shed_by_reason == {"queue": 225}
    assert made.retries == 225
    # Numbers 0 and 1 of the mix are CRITICAL, 0 and 2 are of acme.
    assert [(each.name, each.offered, each.shed) for each in made.by_class] == [
        ("CRITICAL", 450, 75),
        ("SHEDDABLE", 450, 150),
    ]
    assert [(each.name, each.shed) for each in made.by_tenant] == [("acme", 75), ("<bolt>", 150)]
    assert {each.name: each.good for each in made.by_rung} == {"the model": 375, "cached": 300}
    assert made.total.p50_ms == pytest.approx(20, rel=0.011)
    line = made.timeline
    assert sum(line.offered_per_s) * line.step_s == pytest.approx(900)
    assert sum(line.shed_per_s["queue"]) * line.step_s == pytest.approx(225)
    assert msgspec.json.decode(msgspec.json.encode(made), type=Report) == made


@pytest.mark.parametrize(
    ("bad_until_s", "recovery_s", "recovered"), [(6, 0.0, True), (7.25, 1.3, True), (9, None, False)]
)
def test_recovery_counts_from_the_end_of_the_surge(
    bad_until_s: float, recovery_s: float | None, recovered: bool
) -> None:
    made = report(list(surge(bad_until_s)), "recovery_s<=1")
    assert made.recovery_s == (None if recovery_s is None else pytest.approx(recovery_s))
    assert made.recovered is recovered
    assert made.exit_code == (0 if recovery_s == 0 else 1), "never is not held; it is not unmeasured"


def test_good_windows_with_bad_ones_between_them_are_no_recovery() -> None:
    rows = list(surge(bad_until_s=6))
    rows += [finished(6.05 + 0.3 * number, 0, Outcome.SHED, 1) for number in range(10)]
    assert report(rows).recovered is False


def test_what_was_ended_early_has_not_recovered() -> None:
    rows = [each for each in surge(bad_until_s=6) if each.intended_s < 6.3]
    made = report(rows, "recovery_s<=1", run_s=6.3, stopped=True)
    assert (made.recovered, made.exit_code, made.verdict) == (None, 2, "not measured")
    assert "ended early" in made.notes[0]


def test_goodput_compares_with_the_capacity_where_that_is_known() -> None:
    rows = list(surge(bad_until_s=6))
    # 225 of 900 were refused; able to do 50 a second, it could have answered 450.
    assert report(rows).goodput == pytest.approx(0.75)
    assert report(rows, capacity_per_s=1000.0).goodput == pytest.approx(0.75)
    assert report(rows, capacity_per_s=50.0).goodput == pytest.approx(675 / 450)


def test_no_verdict_where_the_generator_was_the_limit() -> None:
    late = {"lateness_p99_ms": 400.0}
    rows = list(surge(bad_until_s=6))
    assert report(rows, "good>=0.1").exit_code == 0
    limited = report(rows, "good>=0.1", generator=late)
    assert (limited.exit_code, limited.verdict, len(limited.limits)) == (2, "not measured", 1)
    assert report(rows, "good>=0.1", generator=late, allow_limited=True).verdict == "held"
    assert report(rows, "good>=0.9").verdict == "not held"
    assert report(rows).verdict == "nothing required"


@given(st.lists(st.tuples(st.floats(0, 8.99), st.integers(0, 3), st.sampled_from(Outcome)), max_size=80))
def test_nobody_is_lost_and_nobody_counts_twice(rows: list[tuple[float, int, Outcome]]) -> None:
    made = report([finished(*row) for row in rows])
    for tables in ([made.total], made.by_class, made.by_tenant):
        assert sum(each.offered for each in tables) == len(rows)
        for each in tables:
            parts = (each.good, each.late, each.shed, each.expired, each.failed, each.timeout, each.unsent)
            assert sum(parts) + each.broken == each.offered
    line = made.timeline
    endings = [*line.shed_per_s.values(), line.admitted_per_s, line.failed_per_s]
    assert sum(map(sum, endings)) == pytest.approx(sum(line.offered_per_s))
    assert all(good <= admitted for good, admitted in zip(line.good_per_s, line.admitted_per_s, strict=True))


def test_a_surge_that_was_not_seen_whole_has_no_verdict() -> None:
    """Ended before the surge came, all is well: but nobody asked about that."""
    rows = [each for each in surge(bad_until_s=6) if each.intended_s < 2.5]
    early = report(rows, "good>=0.99", run_s=2.5, stopped=True)
    assert (early.total.good_share, early.exit_code, early.verdict) == (1.0, 2, "not measured")
    assert report(rows, "good>=0.99", run_s=2.5).exit_code == 2, "the limit on requests cut it off"
    assert report(rows, run_s=2.5, stopped=True).exit_code == 0, "nothing was required"
    assert report(list(surge(bad_until_s=6)), "good>=0.7").exit_code == 0


def test_silence_is_no_recovery() -> None:
    """One request a second, and those until 8 s refused: the windows between them are empty."""
    rows = [finished(at + 0.05, 0, Outcome.SHED if 3 <= at < 8 else Outcome.GOOD) for at in range(9)]
    assert report(rows).recovered is None, "three requests after the surge are too few to say"
    rows += [finished(8.1 + number / 10 + 0.05, 0, Outcome.GOOD) for number in range(8)]
    made = report(rows)
    assert (made.recovered, round(made.recovery_s or 0, 6)) == (True, 2.0)
