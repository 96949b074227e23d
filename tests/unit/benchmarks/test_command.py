"""What every benchmark's command does: which figures run, what is written of them, and the exit status."""

import contextlib
import json
from pathlib import Path

import pytest
from benchmarks.harness import command
from benchmarks.harness.command import chosen_figures, parser_of, run_command
from benchmarks.harness.cores import Cores, Unpinnable
from benchmarks.harness.figure import Claim, FigureFailed, Result


class Bench:
    cores = Cores(server=0, load=7, wide=frozenset({0}))


def measured(bench: Bench) -> Result:
    return Result(name="good", claims=(Claim(name="ratio", value=2.0, at_least=1.0),), facts={"rows": 5})


def failing(bench: Bench) -> Result:
    raise FigureFailed("an answer was wrong\nhere is which")


FIGURES = {"good": measured, "bad": failing}


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(command, "begun", lambda: (lines.append, {"cores": 2}))

    @contextlib.contextmanager
    def pinned(*cores: int):
        lines.append(f"pinned to {cores}")
        yield

    monkeypatch.setattr(command, "pinned", pinned)
    return lines


def ran(*arguments: str, prepare=lambda say: Bench()) -> int:
    options = parser_of("made_up", "it is", list(FIGURES)).parse_args(arguments)
    return run_command("made_up", FIGURES, options, prepare, chosen_figures(options, list(FIGURES)))


def test_the_report_says_what_was_measured_and_what_failed(
    said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.json"
    monkeypatch.setattr("sys.argv", ["made_up", "--quick"])
    assert ran("--json", str(path)) == 1
    report = json.loads(path.read_text())
    assert (report["name"], report["machine"], report["ratios"]) == ("made_up", {"cores": 2}, {"ratio": 2.0})
    assert report["figures"]["good"]["rows"] == 5
    assert report["figures"]["failures"] == {"bad": "an answer was wrong\nhere is which"}
    assert report["figures"]["command"] == "python -m benchmarks.made_up --quick"
    assert said[0] == "pinned to (7,)"
    assert said[-1] == "FAILED: bad: an answer was wrong"


def test_one_figure_alone(said: list[str]) -> None:
    assert ran("--only", "good") == 0
    assert not any("FAILED" in line for line in said)


def test_figures_run_in_the_benchmarks_order() -> None:
    options = parser_of("made_up", None, ["a", "b", "c"]).parse_args(["--only", "c", "--only", "a"])
    assert chosen_figures(options, ["a", "b", "c"]) == ["a", "c"]
    assert chosen_figures(parser_of("made_up", None, ["a"]).parse_args([]), ["a", "b"]) == ["a", "b"]


def test_a_machine_that_cannot_measure_is_told_of(said: list[str]) -> None:
    def prepare(say):
        raise Unpinnable("one core is not enough")

    assert ran(prepare=prepare) == 2
    assert said == ["error: one core is not enough"]


def test_a_figure_that_there_is_not() -> None:
    with pytest.raises(SystemExit):
        ran("--only", "ugly")
