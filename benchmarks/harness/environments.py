"""Each peer in a virtual environment of its own, made once from a file of pinned requirements."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

__all__ = ["EnvironmentFailed", "Environments"]

STAMP = "requirements.sha256"
INSTALL_S_MAX = 1800
ASK_S_MAX = 60
VERSIONS = (
    "import importlib.metadata as m, json, platform, sys\n"
    "print(json.dumps({'python': platform.python_version(), **{n: m.version(n) for n in sys.argv[1:]}}))"
)


class EnvironmentFailed(Exception):
    """An environment could not be made."""


class Environments:
    """The environments under one folder; `say` is told what takes long."""

    def __init__(self, folder: Path, *, say: Callable[[str], None]) -> None:
        self._folder = folder
        self._say = say

    def python(self, name: str | None) -> Path:
        """The interpreter of an environment; of no environment: the one that runs the benchmark."""
        return Path(sys.executable) if name is None else self._folder / name / "bin" / "python"

    def prepare(self, name: str, requirements: Path) -> None:
        """Make the environment, or make it anew if its requirements have changed."""
        digest = hashlib.sha256(requirements.read_bytes()).hexdigest()
        folder = self._folder / name
        stamp = folder / STAMP
        if stamp.exists() and stamp.read_text() == digest:
            return
        self._say(f"making the environment {folder} (once; some minutes)")
        if folder.is_dir() and not folder.is_symlink():
            shutil.rmtree(folder)
        self._run([sys.executable, "-m", "venv", str(folder)], name)
        self._run([str(self.python(name)), "-m", "pip", "install", "--quiet", "-r", str(requirements)], name)
        stamp.write_text(digest)

    def versions(self, name: str | None, packages: Sequence[str]) -> dict[str, str]:
        """What is installed: Python and the named packages. Empty where one of them is missing."""
        command = [str(self.python(name)), "-c", VERSIONS, *packages]
        done = subprocess.run(command, capture_output=True, text=True, timeout=ASK_S_MAX, check=False)
        return dict(json.loads(done.stdout)) if done.returncode == 0 else {}

    def _run(self, command: list[str], name: str) -> None:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S_MAX, check=False)
        if done.returncode:
            tail = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
            raise EnvironmentFailed(f"the environment {name} could not be made\n{' '.join(command)}\n{tail}")
