"""`penstock limits`, held against an app file and not."""

import json
from pathlib import Path

import pytest
from command_line import CommandLine

APP = """
import penstock as ps

app = ps.App("shop")
app.model("late")
app.tenant("acme", keys=["a-key-of-enough-letters"])
app.limit(ps.RateLimit(per_second=20))
app.limit(ps.RateLimit(per_second=5), model="late")
"""


@pytest.fixture
def commands(tmp_path: Path) -> CommandLine:
    (tmp_path / "app.py").write_text(APP)
    return CommandLine(tmp_path)


def test_names_that_the_app_does_not_have_are_refused(commands: CommandLine) -> None:
    for options, said in (
        (("--tenant", "acmee"), "no tenant 'acmee'"),
        (("--model", "lat"), "no model 'lat'"),
        (("--model", "early", "--tenant", "acme"), "no model 'early'"),
    ):
        failed = commands.fails("limits", "set", "5", *options, "--app", "app.py")
        assert said in failed
        assert "hint:" in failed
    assert json.loads(commands.succeeds("limits", "show", "--json")) == []
    commands.succeeds("limits", "set", "7", "--tenant", "acme", "--model", "late", "--app", "app.py")
    without = commands.run("limits", "set", "7", "--tenant", "acmee")
    assert "--app" in without.stderr


def test_show_says_what_holds_and_where_it_comes_from(commands: CommandLine) -> None:
    commands.succeeds("limits", "set", "50", "--model", "late")
    shown = json.loads(commands.succeeds("limits", "show", "app.py", "--json"))
    found = {(each["model"], each["limit"]["per_second"], each["from"]) for each in shown}
    assert found == {("late", 50.0, "set"), (None, 20.0, "app file")}
    table = commands.succeeds("limits", "show", "app.py")
    assert "app file" in table
    assert "set" in table
