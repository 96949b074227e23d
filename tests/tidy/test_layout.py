"""Where things stand: tests beside what they test, pins without an index, light imports."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from sources import ROOT, SOURCE

UNIT = ROOT / "tests" / "unit"
HEAVY = (
    "alembic",
    "joblib",
    "lightgbm",
    "onnx",
    "onnxruntime",
    "pandas",
    "polars",
    "sklearn",
    "sqlalchemy",
    "typer",
)
OF_A_WHOLE_PACKAGE = {"models/test_imports.py"}
TESTS = sorted(path.relative_to(UNIT) for path in UNIT.rglob("test_*.py"))


@pytest.mark.parametrize("path", TESTS, ids=str)
def test_unit_tests_mirror_the_source(path: Path) -> None:
    """`test_<module>.py`, with more words after it where there are several, in the folder of the module."""
    if path.as_posix() in OF_A_WHOLE_PACKAGE:
        return
    benchmark = path.parts[0] == "benchmarks"
    folder = ROOT / path.parent if benchmark else SOURCE / path.parent
    assert folder.is_dir(), f"tests/unit/{path}: there is no {folder}"
    tested = path.stem.removeprefix("test_")
    modules = folder.rglob("*.py") if benchmark else folder.iterdir()
    names = {module.stem for module in modules if module.stem not in ("__init__", "__main__")}
    candidates = (tested, tested.removeprefix(f"{folder.name}_"))
    assert any(
        candidate == name or candidate.startswith(f"{name}_") for name in names for candidate in candidates
    ), f"tests/unit/{path} is named after no module of {folder}"


def test_test_modules_have_different_names() -> None:
    """Pytest imports them side by side."""
    names = [
        path.name for path in (ROOT / "tests").rglob("*.py") if path.name not in ("__init__.py", "conftest.py")
    ]
    assert sorted(names) == sorted(set(names))


def test_pins_name_no_index() -> None:
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert not re.findall(r"https?://|--(?:extra-)?index-url|--find-links|^-[if]\b|@", text, flags=re.MULTILINE)
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[^\s;]+( *;.*)?", line) for line in lines)


@pytest.mark.parametrize("module", ["penstock", "penstock.models.runtimes.worker", "penstock.app.loading"])
def test_importing_is_light(module: str) -> None:
    """Worker processes import these in each start."""
    code = f"import sys, {module}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not set(done.stdout.split()) & set(HEAVY)
