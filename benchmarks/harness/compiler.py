"""C sources of load generators, compiled when they are first needed."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

__all__ = ["BuildFailed", "compiled"]

BUILD_S_MAX = 60


class BuildFailed(Exception):
    """The compiler is missing, or it refused the source."""


def compiled(source: Path, folder: Path, *, libraries: Sequence[str] = ()) -> Path:
    """The program that `source` makes, in `folder`; built anew unless it is newer than the source.

    Raises `BuildFailed`.
    """
    binary = folder / source.stem
    if binary.exists() and binary.stat().st_mtime > source.stat().st_mtime:
        return binary
    compiler = shutil.which("cc")
    if compiler is None:
        raise BuildFailed("no C compiler (cc) for the load generator\nhint: install one, e.g. the package gcc")
    folder.mkdir(parents=True, exist_ok=True)
    command = [compiler, "-O2", "-o", str(binary), str(source), *(f"-l{library}" for library in libraries)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_S_MAX, check=False)
    if done.returncode:
        raise BuildFailed(f"{source} does not compile:\n{done.stderr}")
    return binary
