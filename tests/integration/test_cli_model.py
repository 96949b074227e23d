"""`penstock model` as a user runs it: push in every format, look, move aliases, pull, delete, collect."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import joblib
import numpy as np
import polars as pl
import pytest
from command_line import CommandLine, wait_for
from sample_models import CARRIERS, COLUMNS, SampleModel, lightgbm_text, xgboost_file

RACERS = 4


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def stored(commands: CommandLine) -> set[str]:
    return {path.name for path in (commands.folder / ".penstock" / "artifacts").iterdir()}


def test_a_pipeline_of_text_and_numbers_is_compiled_and_listed(pushed: CommandLine, late: SampleModel) -> None:
    shown = json.loads(pushed.succeeds("model", "show", "late", "--json"))
    assert (shown["model"], shown["number"], shown["runtime"], shown["format"]) == ("late", 1, "onnx", "pickle")
    assert shown["aliases"] == ["champion"]
    assert [each["name"] for each in shown["signature"]["inputs"]] == COLUMNS
    assert shown["signature"]["inputs"][0]["categories"] == list(CARRIERS)
    assert shown["source"]["digest"] == sha256(late.file)
    (proof,) = shown["compilations"]
    assert proof["parity"]["rows"] == 12_000

    listed = json.loads(pushed.succeeds("model", "list", "--json"))
    assert [(each["model"], len(each["versions"])) for each in listed] == [("late", 1), ("linear", 2)]
    assert listed[1]["aliases"] == {"champion": 1}


def test_what_a_push_prints_can_be_used_by_a_script(commands: CommandLine, linear: SampleModel) -> None:
    first = commands.run("model", "push", "linear", linear.file)
    assert (first.status, first.stdout) == (0, "linear:1\n")
    assert "pushed linear:1" in first.stderr
    assert "\n  takes FP32[-1, 6]: " in first.stderr

    pushing = ("model", "push", "linear", linear.file, "--json", "--parent", "1", "--data", "2013")
    second = commands.run(*pushing, "--metric", "auc=0.9", "--param", "depth=3", "--creator", "ann")
    version = json.loads(second.stdout)
    assert (version["number"], version["metrics"], version["parameters"]) == (2, {"auc": 0.9}, {"depth": 3})
    assert (version["lineage"]["data"], version["lineage"]["parent"]) == ("2013", 1)
    assert version["creator"] == "ann"
    assert second.stderr == ""

    shown = commands.succeeds("model", "show", "linear:2")
    assert "auc=0.9" in shown
    assert sha256(linear.file) in shown


@pytest.mark.parametrize(
    ("make", "format_"),
    [
        (lambda folder: xgboost_file(folder, ".json"), "xgboost"),
        (lambda folder: xgboost_file(folder, ".ubj"), "xgboost"),
        (lightgbm_text, "lightgbm"),
    ],
    ids=["xgboost.json", "xgboost.ubj", "lightgbm.txt"],
)
def test_boosters_need_no_trust(
    commands: CommandLine, tmp_path: Path, make: Callable[[Path], SampleModel], format_: str
) -> None:
    model = make(tmp_path)
    version = json.loads(
        commands.succeeds("model", "push", "trees", model.file, "--samples", model.samples, "--json")
    )
    assert (version["format"], version["trusted_pickle"]) == (format_, False)
    assert version["golden"] is not None


def test_what_libraries_print_is_not_taken_for_data(commands: CommandLine, tmp_path: Path) -> None:
    model = lightgbm_text(tmp_path)
    text = model.file.read_text()
    assert "\nparameters:\n" in text
    model.file.write_text(text.replace("\nparameters:\n", "\nparameters:\n[unheard_of: 1]\n"))
    finished = commands.run("model", "push", "leaves", model.file)
    assert finished.stdout == "leaves:1\n"
    assert "unheard_of" in finished.stderr


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> object:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("name", ["bomb.joblib", "bomb.onnx", "bomb.txt"])
def test_a_pickle_is_refused_unopened_whatever_it_is_called(
    pushed: CommandLine, tmp_path: Path, name: str
) -> None:
    marker = tmp_path / "marker"
    joblib.dump(Bomb(marker), tmp_path / name)
    kept = stored(pushed)
    said = pushed.fails("model", "push", "late", tmp_path / name)
    assert "is a pickle" in said
    assert "--trust-pickle" in said
    assert not marker.exists()
    assert stored(pushed) == kept


def corrupt_joblib(folder: Path, late: SampleModel) -> Path:
    content = bytearray(late.file.read_bytes())
    content[len(content) // 3] ^= 0xFF
    return write(folder / "corrupt.joblib", bytes(content[: len(content) // 2]))


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def not_a_model(folder: Path, late: SampleModel) -> Path:
    joblib.dump({"weights": [1, 2]}, folder / "dict.joblib")
    return folder / "dict.joblib"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder, late: folder / "missing.joblib", "there is no such file"),
        (lambda folder, late: folder, "there is no such file"),
        (lambda folder, late: write(folder / "empty.onnx", b""), "is empty"),
        (lambda folder, late: write(folder / "notes.md", b"# notes"), "not a model file of a known kind"),
        (lambda folder, late: write(folder / "broken.onnx", b"\x08\x09garbage" * 30), "broken.onnx"),
        (lambda folder, late: write(folder / "broken.json", b'{"learner": {"x": 1}}'), "xgboost"),
        (lambda folder, late: write(folder / "broken.txt", b"tree\nversion=v4\nnum_class=x\n"), "lightgbm"),
        (corrupt_joblib, "corrupt.joblib"),
        (not_a_model, "holds a dict, not a model"),
    ],
    ids=["missing", "folder", "empty", "text", "onnx", "json", "lightgbm", "joblib", "dict"],
)
def test_a_file_that_is_no_model_is_one_clear_error(
    pushed: CommandLine,
    tmp_path: Path,
    late: SampleModel,
    make: Callable[[Path, SampleModel], Path],
    said: str,
) -> None:
    file = make(tmp_path, late)
    kept = stored(pushed)
    finished = pushed.run("model", "push", "late", file, "--trust-pickle")
    assert (finished.status, finished.stdout) == (1, "")
    # LightGBM prints the error that it raises, too.
    (error,) = [line for line in finished.stderr.splitlines() if not line.startswith(("[LightGBM]", "hint: "))]
    assert error.startswith("error: ")
    assert said in error
    assert stored(pushed) == kept


def samples_with_nan(folder: Path, rows: pl.DataFrame) -> Path:
    delay = rows["delay"].to_numpy().copy()
    delay[7] = np.nan
    rows.with_columns(delay=pl.Series(delay)).write_parquet(folder / "nan.parquet")
    return folder / "nan.parquet"


def samples_without(folder: Path, rows: pl.DataFrame) -> Path:
    rows.drop("origin").write_parquet(folder / "without.parquet")
    return folder / "without.parquet"


def samples_with_strange(folder: Path, rows: pl.DataFrame) -> Path:
    strange = rows.with_columns(
        carrier=pl.when(pl.int_range(pl.len()) == 5).then(pl.lit("??")).otherwise("carrier")
    )
    strange.write_parquet(folder / "strange.parquet")
    return folder / "strange.parquet"


def samples_empty(folder: Path, rows: pl.DataFrame) -> Path:
    rows.head(0).write_parquet(folder / "none.parquet")
    return folder / "none.parquet"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder, rows: folder / "missing.parquet", "there is no such file"),
        (lambda folder, rows: write(folder / "broken.parquet", b"PAR1 garbage"), "cannot be read as .parquet"),
        (lambda folder, rows: write(folder / "rows.xls", b"x"), "sample rows cannot be read from .xls"),
        (samples_empty, "has no rows"),
        (samples_without, "origin"),
        (samples_with_strange, "input 'carrier', row 5: unknown category '??'"),
        (samples_with_nan, "input 'delay', row 7: the model has no place for nan"),
    ],
    ids=["missing", "broken", "kind", "empty", "column", "category", "nan"],
)
def test_samples_that_do_not_fit_are_one_clear_error(
    pushed: CommandLine,
    tmp_path: Path,
    late: SampleModel,
    make: Callable[[Path, pl.DataFrame], Path],
    said: str,
) -> None:
    samples = make(tmp_path, late.rows)
    pushing = ("model", "push", "late", late.file, "--trust-pickle", "--samples", samples)
    assert said in pushed.fails(*pushing)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["model", "push", "late", "FILE", "--metric", "auc"], "--metric"),
        (["model", "push", "late", "FILE", "--metric", "auc=high"], "not a number"),
        (["model", "push", "../late", "FILE"], "../late"),
        (["model", "push", "late", "FILE", "--alias", "7"], "7"),
        (["model", "push", "late", "FILE", "--parent", "9"], "has never been a version"),
        (["model", "show", "linear:9"], "there is no version linear:9"),
        (["model", "show", "linear@blue"], "has no alias 'blue'"),
        (["model", "show", "linear:x"], "linear:x"),
        (["model", "list", "nope"], "there is no model 'nope'"),
        (["model", "alias", "linear", "blue", "9"], "there is no version linear:9"),
        (["model", "alias", "linear", "blue"], "VERSION"),
        (["model", "alias", "linear", "blue", "1", "--delete"], "VERSION"),
        (["model", "alias", "linear", "blue", "--delete"], "has no alias 'blue'"),
        (["model", "delete", "linear"], "NAME:VERSION"),
        (["model", "delete", "linear:²"], "is not a version's number"),
        (["model", "delete", "linear:1"], "champion points at it"),
        (["model", "delete", "linear:9"], "there is no version linear:9"),
        (["model", "pull", "linear:9", "files"], "there is no version linear:9"),
        (["model", "pull", "linear", "/proc/nowhere"], "cannot write to /proc/nowhere"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_done_is_said(
    pushed: CommandLine, linear: SampleModel, arguments: list[str], said: str
) -> None:
    file = str(linear.file)
    assert said in pushed.fails_inside(*(file if each == "FILE" else each for each in arguments))


def test_what_cannot_be_done_is_said_in_a_shell_too(pushed: CommandLine) -> None:
    assert pushed.fails("model", "delete", "linear:1") == pushed.fails_inside("model", "delete", "linear:1")


def champion(commands: CommandLine) -> int:
    number: int = json.loads(commands.succeeds("model", "list", "linear", "--json"))[0]["aliases"]["champion"]
    return number


def test_an_alias_moves_from_where_it_was_expected_only(registry: CommandLine) -> None:
    said = registry.fails("model", "alias", "linear", "champion", "2", "--expect", "2")
    assert "points at version 1" in said
    assert champion(registry) == 1
    assert registry.succeeds("model", "alias", "linear", "champion", "2", "--expect", "1") == ""
    assert champion(registry) == 2
    registry.fails("model", "alias", "linear", "champion", "1", "--expect", "0")
    registry.succeeds("model", "alias", "linear", "blue", "1", "--expect", "0")
    registry.succeeds("model", "alias", "linear", "blue", "--delete", "--expect", "1")
    registry.fails("model", "show", "linear@blue")


def test_of_processes_that_race_for_an_alias_one_wins(registry: CommandLine) -> None:
    moving = ("model", "alias", "linear", "champion", "2", "--expect", "1")
    racing = [registry.start(*moving) for _ in range(RACERS)]
    finished = [wait_for(process) for process in racing]
    assert sorted(each.status for each in finished) == [0] + [1] * (RACERS - 1)
    for each in finished:
        assert each.status == 0 or "points at version 2" in each.error
    assert champion(registry) == 2


def test_pulled_files_are_those_that_were_pushed(registry: CommandLine, late: SampleModel) -> None:
    pulled = registry.succeeds("model", "pull", "late@champion", "files/here").splitlines()
    assert [Path(each).parent for each in pulled] == [Path("files/here")] * 2
    source, compiled = (registry.folder / each for each in pulled)
    assert source.read_bytes() == late.file.read_bytes()
    assert compiled.suffix == ".onnx"
    assert registry.succeeds("model", "push", "again", compiled) == "again:1\n"


def test_a_damaged_file_is_not_pulled(registry: CommandLine, linear: SampleModel) -> None:
    stored = registry.folder / ".penstock" / "artifacts" / sha256(linear.file)
    stored.chmod(0o644)
    stored.write_bytes(stored.read_bytes()[:-1])
    said = registry.fails("model", "pull", "linear", "files")
    assert "corrupt" in said
    assert not list((registry.folder / "files").iterdir())


def test_deleted_versions_are_collected_and_what_is_used_is_kept(
    registry: CommandLine, linear: SampleModel, late: SampleModel
) -> None:
    artifacts = registry.folder / ".penstock" / "artifacts"
    registry.succeeds("model", "alias", "late", "champion", "--delete")
    registry.succeeds("model", "delete", "late:1")
    assert "late" not in registry.succeeds("model", "list")
    assert json.loads(registry.succeeds("model", "gc", "--json"))["artifacts"] == []
    assert (artifacts / sha256(late.file)).exists()

    garbage = json.loads(registry.succeeds("model", "gc", "--grace", "0", "--json"))
    assert sha256(late.file) in garbage["artifacts"]
    assert garbage["freed_bytes"] > 0
    assert not (artifacts / sha256(late.file)).exists()
    assert (artifacts / sha256(linear.file)).exists()
    registry.succeeds("model", "pull", "linear:2", "files")


def test_the_registry_can_be_elsewhere(commands: CommandLine, pushed: CommandLine, tmp_path: Path) -> None:
    # Not the sockets of servers that run from it.
    shutil.copytree(pushed.folder / ".penstock", tmp_path / "moved", ignore=shutil.ignore_patterns("run"))
    elsewhere = {"PENSTOCK_HOME": str(tmp_path / "moved")}
    assert "linear" in commands.succeeds("model", "list", environment=elsewhere)
    assert not (tmp_path / ".penstock").exists()


def test_a_registry_that_is_no_database_is_said(commands: CommandLine, tmp_path: Path) -> None:
    write(tmp_path / "notes.db", b"not a database" * 100)
    assert "notes.db" in commands.fails(
        "model", "list", "--set", f"registry.database=sqlite:///{tmp_path}/notes.db"
    )
    assert "registry" in commands.fails("model", "list", "--set", "registry.database=nonsense")
