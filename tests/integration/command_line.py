"""Runs the real `penstock` command, as a user's shell would."""

import contextlib
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from unittest import mock

from penstock.cli.main import main

PENSTOCK = str(Path(sys.executable).with_name("penstock"))
PATIENCE_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Finished:
    """How a command ended, and what it printed."""

    status: int
    stdout: str
    stderr: str

    @property
    def error(self) -> str:
        """What a failed command said; its first line is the error, and the last may be the hint."""
        assert self.stderr.startswith("error: "), self.stderr
        assert all(line.startswith(("error: ", "hint: ")) for line in self.stderr.splitlines()), self.stderr
        return self.stderr


@dataclass(frozen=True)
class CommandLine:
    """A working folder, in which `penstock` keeps its state in `.penstock`."""

    folder: Path

    def start(
        self,
        *arguments: str | Path,
        environment: Mapping[str, str] | None = None,
        before: Callable[[], None] | None = None,
        stderr: int | IO[str] = subprocess.PIPE,
    ) -> subprocess.Popen[str]:
        """The command, running. `before` is called in its process first, to set limits."""
        return subprocess.Popen(
            [PENSTOCK, *(str(argument) for argument in arguments)],
            cwd=self.folder,
            env=_environment(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            preexec_fn=before,  # noqa: PLW1509 - limits are set, and no thread of the tests runs meanwhile
        )

    def run(
        self,
        *arguments: str | Path,
        environment: Mapping[str, str] | None = None,
        before: Callable[[], None] | None = None,
    ) -> Finished:
        """Runs the command to its end. Whatever it is asked, it never shows a stack trace."""
        return wait_for(self.start(*arguments, environment=environment, before=before))

    def inside(self, *arguments: str | Path, environment: Mapping[str, str] | None = None) -> Finished:
        """Runs the command in this process: for the many cases of what `run` has shown to be the same there. A
        process of its own takes half a second to start.
        """
        stdout, stderr = io.StringIO(), io.StringIO()
        status: object = 0
        with (
            mock.patch.dict(os.environ, _environment(environment), clear=True),
            mock.patch.object(sys, "argv", ["penstock", *map(str, arguments)]),
            contextlib.chdir(self.folder),
            contextlib.redirect_stdout(stdout),
            contextlib.redirect_stderr(stderr),
        ):
            try:
                main()
            except SystemExit as ended:
                status = ended.code or 0
        assert isinstance(status, int)
        return Finished(status=status, stdout=stdout.getvalue(), stderr=stderr.getvalue())

    def fails_inside(self, *arguments: str | Path, environment: Mapping[str, str] | None = None) -> str:
        """As `fails`, in this process."""
        return _failed(self.inside(*arguments, environment=environment))

    def succeeds_inside(self, *arguments: str | Path) -> str:
        """As `succeeds`, in this process."""
        finished = self.inside(*arguments)
        assert finished.status == 0, finished
        return finished.stdout

    def fails(self, *arguments: str | Path, environment: Mapping[str, str] | None = None) -> str:
        """Runs a command that has to fail with status 1 and nothing on stdout; what it said."""
        return _failed(self.run(*arguments, environment=environment))

    def succeeds(self, *arguments: str | Path, environment: Mapping[str, str] | None = None) -> str:
        """Runs a command that has to succeed; its stdout."""
        finished = self.run(*arguments, environment=environment)
        assert finished.status == 0, finished
        return finished.stdout


def _environment(further: Mapping[str, str] | None) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
    return kept | {"NO_COLOR": "1", "COLUMNS": "200"} | dict(further or {})


def _failed(finished: Finished) -> str:
    assert (finished.status, finished.stdout) == (1, ""), finished
    return finished.error


def wait_for(process: "subprocess.Popen[str]") -> Finished:
    """The end of a command; one that takes too long is killed, which fails the test."""
    try:
        stdout, stderr = process.communicate(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        stdout, stderr = process.communicate()
        raise AssertionError(f"{process.args} did not end; it said: {stderr[-2000:]}") from None
    assert "Traceback" not in stderr, stderr
    return Finished(status=process.returncode, stdout=stdout, stderr=stderr)


def copy_home(pushed: CommandLine, to: Path) -> None:
    """Not the sockets of servers that run from it."""
    shutil.copytree(pushed.folder / ".penstock", to / ".penstock", ignore=shutil.ignore_patterns("run"))
