"""Ratios, medians and the shape of the JSON report of the serving benchmark."""

import json

import pytest
from benchmarks.harness.load import Load
from benchmarks.harness.report import median, ratio, write_json
from benchmarks.serving.measure import Footprint, Sample
from benchmarks.serving.report import Figures, Results, markdown, ratios, summary
from benchmarks.serving.systems import systems

FOOTPRINT = Footprint(
    start_s=1.2,
    worker_mb=150.0,
    tree_mb=220.0,
    growth_mb=0.4,
    growth_answers=1_000_000,
    import_s=0.2,
    help_s=0.4,
    p99_64_us=2_000.0,
    p99_5000_us=3_000.0,
    idle=4_936,
    idle_served=4_936,
    idle_failed=0,
)


def sample(rps: float, single_p50_us: float = 100.0) -> Sample:
    many = Load(rps=rps, p50_us=1_000.0, p99_us=2_000.0, answered=100, failed=0)
    single = Load(rps=1e6 / single_p50_us, p50_us=single_p50_us, p99_us=200.0, answered=100, failed=0)
    return Sample(start_s=1.0, many=many, single=single, resident_mb=100.0)


def results() -> Results:
    gathered = Results(systems=systems())
    for name, rps, p50_us in (
        ("penstock", 30_000, 90),
        ("penstock_binary", 33_000, 80),
        ("granian_echo", 40_000, 70),
        ("uvloop_echo", 60_000, 50),
        ("fastapi_sklearn", 1_500, 800),
        ("fastapi_onnx", 6_000, 180),
    ):
        gathered.samples[name] = [sample(rps, p50_us)]
    gathered.direct_rows_per_s = [300_000.0]
    gathered.footprint = FOOTPRINT
    gathered.versions["penstock"] = {"python": "3.11.7", "penstock": "0.1.0"}
    return gathered


def test_the_median_leaves_out_what_was_not_measured():
    assert median([3.0, None, 1.0, 2.0]) == 2.0
    assert median([None]) is None


@pytest.mark.parametrize(("part", "whole"), [(None, 1.0), (1.0, None), (1.0, 0.0)])
def test_a_ratio_needs_both_sides(part, whole):
    assert ratio(part, whole) is None


def test_figures_are_medians_over_rounds():
    assert Figures.of([sample(10), sample(30), sample(11)]).rps_64 == 11


def test_ratios_compare_with_limits_and_the_best_peer():
    numbers, _ = summary(results())

    assert numbers == pytest.approx(
        {
            "echo_limit": 0.75,
            "http_limit": 0.5,
            "onnx_direct": 0.1,
            "fastapi_sklearn": 20.0,
            "best_peer": 5.0,
            "binary_vs_json": 1.1,
            "p50_vs_best_peer": 0.5,
            "idle_p99": 1.5,
        }
    )


def test_without_penstock_every_ratio_is_none():
    figures = {"fastapi_onnx": Figures.of([sample(6_000)])}

    numbers = ratios(figures, peers=["fastapi_onnx"], direct=3e5, footprint=None)

    assert set(numbers.values()) == {None}


def test_a_system_that_failed_once_has_no_figures_but_a_reason():
    gathered = results()
    gathered.failures["fastapi_onnx"] = "wrong answer: said 0.1, scikit-learn says 0.9"

    numbers, figures = summary(gathered)

    assert numbers["best_peer"] == 20.0
    assert "fastapi_onnx" not in figures["systems"]
    assert "wrong answer" in figures["failures"]["fastapi_onnx"]


def test_the_json_report_has_the_four_fields_of_every_benchmark(tmp_path):
    numbers, figures = summary(results())
    path = tmp_path / "serving.json"

    write_json(path, name="serving", on={"cores": 2}, ratios=numbers, figures=figures)

    document = json.loads(path.read_text())
    assert list(document) == ["name", "machine", "ratios", "figures"]
    assert document["name"] == "serving"
    assert document["figures"]["footprint"]["worker_mb"] == 150.0


def test_markdown_names_the_command_the_systems_and_what_failed():
    gathered = results()
    gathered.failures["rayserve"] = "no good answer within 90 s\nlog: ..."
    on = {"processor": "a processor", "system": "Linux", "python": "3.11.7"}

    text = markdown(gathered, on=on, command="python -m benchmarks.serving")

    assert "`python -m benchmarks.serving` on a processor" in text
    assert "| Penstock, V2 JSON | 30,000 |" in text
    assert "Failed: rayserve: no good answer within 90 s" in text
