"""docs/log.md: its examples do what it says."""

import re
import subprocess
import sys
from pathlib import Path

from command_line import PENSTOCK

TEXT = (Path(__file__).parents[2] / "docs" / "log.md").read_text(encoding="utf-8")


def test_the_first_commands_print_what_it_shows(tmp_path: Path) -> None:
    block = re.search(r"```console\n(.*?)```", TEXT, re.DOTALL)
    assert block is not None
    commands = [line.removeprefix("$ ") for line in block[1].splitlines() if line.startswith("$ ")]
    script = "\n".join(command.replace("penstock", PENSTOCK, 1) for command in commands)
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    shown = [line for line in block[1].splitlines() if not line.startswith("$ ")]
    printed = [*done.stderr.splitlines(), *done.stdout.splitlines()]
    assert [re.sub(r"\d{4}-\S+Z", "", line) for line in printed] == [
        re.sub(r"\d{4}-\S+Z", "", line) for line in shown
    ]


def test_the_example_in_python(tmp_path: Path) -> None:
    block = re.search(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert block is not None
    code = block[1] + "print(offset)\n"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == "0\n"
