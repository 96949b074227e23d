"""Makes the clients' environments, `.clients/<name>`, from the pins in `environments/<name>.txt`.

`python tests/clients/make_environments.py [NAME ...]`: those that are named, else all. One that stands and has
the pins as they are now is left alone. Needs the standard library only; they are made one after the other,
also where it runs twice at once.
"""

import fcntl
import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path

PINS = Path(__file__).with_name("environments")
CLIENTS = Path(__file__).parents[2] / ".clients"
INSTALL_S_MAX = 600


def names() -> list[str]:
    """The environments that there are pins for."""
    return sorted(path.stem for path in PINS.glob("*.txt"))


def environment_python(name: str) -> Path | None:
    """The Python of an environment; None where it is not made, or its pins have changed since."""
    stamp = CLIENTS / name / "pins"
    python = CLIENTS / name / "bin" / "python"
    return python if stamp.is_file() and stamp.read_text() == _digest(name) and python.exists() else None


def make(name: str) -> None:
    """Makes an environment anew. Raises `subprocess.CalledProcessError` where pip fails."""
    folder = CLIENTS / name
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True, symlinks=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    subprocess.run([*pip, "--requirement", str(PINS / f"{name}.txt")], check=True, timeout=INSTALL_S_MAX)
    (folder / "pins").write_text(_digest(name))


def main(wanted: list[str]) -> None:
    unknown = set(wanted) - set(names())
    if unknown:
        raise SystemExit(f"error: no pins for {', '.join(sorted(unknown))}; there are {', '.join(names())}")
    CLIENTS.mkdir(exist_ok=True)
    with (CLIENTS / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name in wanted or names():
            if environment_python(name) is None:
                sys.stderr.write(f"setting up .clients/{name} (once) ...\n")
                make(name)


def _digest(name: str) -> str:
    """Of the pins, and of the Python that they are installed for."""
    pinned = (PINS / f"{name}.txt").read_bytes()
    return hashlib.sha256(pinned + sys.version.encode()).hexdigest()


if __name__ == "__main__":
    main(sys.argv[1:])
