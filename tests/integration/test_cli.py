"""The command line itself: help, completion, exit codes, settings and where they come from."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from command_line import PATIENCE_S, PENSTOCK, CommandLine

COMMANDS = [
    [], ["run"], ["predict"], ["config"], ["config", "show"], ["model"], ["model", "push"], ["model", "list"],
    ["model", "show"], ["model", "alias"], ["model", "pull"], ["model", "delete"], ["model", "gc"], ["status"],
    ["limits"], ["dlq"], ["drill"], ["drill", "surge"], ["log"], ["log", "topics"],
    ["log", "tail"], ["log", "produce"], ["log", "lag"], ["log", "replay"], ["dlq", "list"], ["dlq", "show"],
    ["dlq", "replay"], ["features"], ["features", "list"], ["features", "backfill"], ["features", "join"],
    ["features", "verify"], ["features", "show"], ["features", "status"], ["jobs"], ["jobs", "list"],
    ["jobs", "show"], ["jobs", "cancel"],
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command) or "penstock")
def test_every_command_has_help(commands: CommandLine, command: list[str]) -> None:
    helped = commands.inside(*command, "--help")
    assert (helped.status, helped.stderr) == (0, "")
    assert f"Usage: {' '.join(['penstock', *command])}" in helped.stdout


def test_help_in_a_shell_is_the_same(commands: CommandLine) -> None:
    assert commands.run("model", "push", "--help") == commands.inside("model", "push", "--help")


def test_help_of_all_commands_is_tested(commands: CommandLine) -> None:
    listed = commands.succeeds("--help")
    for group in ("model", "drill", "log", "dlq", "features", "jobs"):
        listed += commands.inside(group, "--help").stdout
    rows = [line.strip("│ ").split()[:1] for line in listed.splitlines() if line.startswith("│ ")]
    named = {row[0] for row in rows if row and not row[0].startswith("-")}
    assert named == {word for command in COMMANDS for word in command} - {"show"} | {"show"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_printed(commands: CommandLine, shell: str) -> None:
    # Without this the shell is the one that runs the command, which for a test is none.
    chosen = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    assert "penstock" in commands.succeeds("--show-completion", shell, environment=chosen)


def test_completion_knows_the_commands(commands: CommandLine) -> None:
    typed = {"_PENSTOCK_COMPLETE": "complete_bash", "COMP_WORDS": "penstock model p", "COMP_CWORD": "2"}
    assert commands.run(environment=typed).stdout.split() == ["push", "pull"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["--nonsense"],
        ["model", "push"],
        ["model", "push", "late"],
        ["model", "alias", "late", "champion", "one"],
        ["run", "app.py", "--port", "http"],
        ["model", "gc", "--grace", "soon"],
        ["model", "gc", "--grace", "-1"],
        ["model", "gc", "--grace", "nan"],
        ["model", "gc", "--grace", "1e300"],
    ],
    ids=" ".join,
)
def test_a_wrong_call_has_status_2(commands: CommandLine, arguments: list[str]) -> None:
    finished = commands.inside(*arguments)
    assert (finished.status, finished.stdout) == (2, "")
    assert "Usage: penstock" in finished.stderr


def test_a_wrong_call_in_a_shell_has_status_2(commands: CommandLine) -> None:
    finished = commands.run("model", "push", "late")
    assert finished == commands.inside("model", "push", "late")
    assert finished.status == 2


def test_the_version_is_printed(commands: CommandLine) -> None:
    assert commands.succeeds("--version").startswith("penstock 0.")


def test_a_reader_that_leaves_early_is_no_error(pushed: CommandLine) -> None:
    read, write = os.pipe()
    os.close(read)
    finished = subprocess.run(
        [PENSTOCK, "model", "list", "--json"],
        cwd=pushed.folder,
        stdout=write,
        stderr=subprocess.PIPE,
        timeout=PATIENCE_S,
        check=False,
    )
    os.close(write)
    assert (finished.returncode, finished.stderr) == (0, b"")


def test_a_limit_is_set_for_models_that_there_are(pushed: CommandLine, tmp_path: Path) -> None:
    # A registry of its own: limits would hold for the servers of other tests.
    shutil.copytree(pushed.folder / ".penstock", tmp_path / ".penstock", ignore=shutil.ignore_patterns("run"))
    pushed = CommandLine(tmp_path)
    pushed.succeeds("limits", "set", "5", "--model", "late")
    said = pushed.fails("limits", "set", "5", "--model", "latr")
    assert "neither the registry nor a running server has a model 'latr'" in said
    assert "did you mean 'late'?" in said
    forced = pushed.run("limits", "set", "6", "--model", "latr", "--tenant", "acme", "--force")
    assert forced.status == 0
    assert "no server runs that could say whether there is a tenant 'acme'" in forced.stderr
    told = pushed.run("limits", "show", "--json")
    assert "nothing runs from .penstock" in told.stderr
    limits = json.loads(told.stdout)
    scopes = [(each["tenant"], each["model"], each["origin"], each["holds"]) for each in limits]
    assert scopes == [(None, "late", "set", True), ("acme", "latr", "set", True)]


def shown(commands: CommandLine, *arguments: str, **environment: str) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = json.loads(
        commands.succeeds("config", "show", "--json", *arguments, environment=environment)
    )
    return found


def test_settings_say_where_they_come_from(commands: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "penstock.toml").write_text('log_level = "debug"\n[server]\nport = 1\nhost = "::1"\n')
    found = shown(commands, "--set", "server.port=3", PENSTOCK_SERVER_PORT="2", PENSTOCK_SERVER_HOST="0.0.0.0")
    assert found["server.port"] == {"value": 3, "origin": "flag"}
    assert found["server.host"] == {"value": "0.0.0.0", "origin": "environment PENSTOCK_SERVER_HOST"}
    assert found["log_level"] == {"value": "debug", "origin": "penstock.toml"}
    assert found["batching.rows_max"] == {"value": 1024, "origin": "default"}

    (tmp_path / "other.toml").write_text("home = 'there'\n")
    assert shown(commands, "--config", "other.toml")["home"] == {"value": "there", "origin": "other.toml"}
    assert shown(commands, PENSTOCK_CONFIG="other.toml")["home"]["value"] == "there"


def test_a_password_is_not_shown(commands: CommandLine) -> None:
    for password, form in (("s3cret", ["--json"]), ("s3@cret", []), ("s3:cr/et", [])):
        url = f"postgresql://penstock:{password}@db.example/models"
        printed = commands.succeeds("config", "show", *form, environment={"PENSTOCK_REGISTRY_DATABASE": url})
        assert "s3" not in printed
        assert "postgresql://penstock:***@db.example/models" in printed


def test_a_secret_is_not_shown(commands: CommandLine) -> None:
    secret = {"PENSTOCK_JOBS_WEBHOOK_SECRET": "whsec_aHVudGVyMmh1bnRlcjJodW50ZXIyaHVudGVyMg=="}
    for form in (["--json"], []):
        printed = commands.succeeds("config", "show", *form, environment=secret)
        assert "aHVud" not in printed
        assert "***" in printed


def test_a_password_is_not_in_an_error(commands: CommandLine) -> None:
    for password in ("s3cret", "s3@cret"):
        url = f"postgresql://penstock:{password}@db.example/models"
        said = commands.fails("model", "list", "--set", f"registry.database={url}")
        assert "cret" not in said


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["--set", "server.prot=1"], {}, "did you mean 'server.port'"),
        ([], {"PENSTOCK_SERVER_PROT": "1"}, "did you mean 'PENSTOCK_SERVER_PORT'"),
        (["--set", "server.port=high"], {}, "'server.port' = 'high' (flag)"),
        (["--set", "server.port=70000"], {}, "'server.port' = '70000' (flag)"),
        (["--set", "server.port"], {}, "is not KEY=VALUE"),
        (["--set", "server=1"], {}, "unknown setting 'server'"),
        (["--set", "log_level=loud"], {}, "'log_level' = 'loud'"),
        (["--set", "server.drain_s=nan"], {}, "'server.drain_s'"),
        ([], {"PENSTOCK_BATCHING_ROWS_MAX": "0"}, "(environment PENSTOCK_BATCHING_ROWS_MAX)"),
        (["--config", "missing.toml"], {}, "missing.toml"),
        (["--config", "."], {}, "settings file ."),
        (["--config", "broken.toml"], {}, "broken.toml is not TOML"),
        (["--config", "unknown.toml"], {}, "did you mean 'server.port'"),
        (["--config", "wrong.toml"], {}, "'server.port' = 'x' (wrong.toml)"),
    ],
    ids=lambda value: " ".join(value) or None if isinstance(value, list) else "",
)
def test_a_wrong_setting_is_named(
    commands: CommandLine, tmp_path: Path, arguments: list[str], environment: dict[str, str], said: str
) -> None:
    (tmp_path / "broken.toml").write_text("port = = 1")
    (tmp_path / "unknown.toml").write_text("[server]\nprot = 1")
    (tmp_path / "wrong.toml").write_text('[server]\nport = "x"')
    assert said in commands.fails_inside("config", "show", *arguments, environment=environment)
