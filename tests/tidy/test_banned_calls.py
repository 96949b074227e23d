"""Time and randomness are read in core/clock.py and core/rng.py alone; everywhere else they are passed in."""

import ast
from collections.abc import Iterator

import pytest
from sources import modules

BANNED = (
    *("time.time", "time.time_ns", "time.monotonic", "time.monotonic_ns", "time.perf_counter", "time.sleep"),
    *("time.perf_counter_ns", "datetime.datetime.now", "datetime.datetime.utcnow", "datetime.datetime.today"),
    *("datetime.date.today", "os.urandom", "uuid.uuid1", "uuid.uuid4"),
)
BANNED_MODULES = ("random", "secrets", "numpy.random")
ALLOWED = {
    "core/clock.py": {"time.monotonic", "datetime.datetime.now"},
    "core/rng.py": {"numpy.random", "secrets"},
    "models/registry/database.py": {"time.sleep"},
}


def imported(tree: ast.Module) -> dict[str, str]:
    """What each imported name stands for, wherever the import is."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                bound = alias.asname or alias.name.partition(".")[0]
                names[bound] = alias.name if alias.asname else bound
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return names


def dotted(node: ast.expr) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        inner = dotted(node.value)
        return None if inner is None else f"{inner}.{node.attr}"
    return None


def banned(full: str) -> str | None:
    """What of the lists `full` is, or is in."""
    if full in BANNED:
        return full
    return next((module for module in BANNED_MODULES if f"{full}.".startswith(f"{module}.")), None)


def mentioned(source: ast.Module) -> Iterator[tuple[str, int]]:
    """All that is imported or referred to, by full name, with the line. References count as calls do."""
    names = imported(source)
    for node in ast.walk(source):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for full in imported(ast.Module(body=[node], type_ignores=[])).values():
                yield full, node.lineno
        elif isinstance(node, ast.Name | ast.Attribute):
            head, _, rest = (dotted(node) or "").partition(".")
            yield f"{names.get(head, head)}.{rest}".rstrip("."), node.lineno


def banned_uses(source: ast.Module) -> dict[str, int]:
    """The banned things that are used or imported, with a line for each."""
    return {name: line for full, line in mentioned(source) if (name := banned(full)) is not None}


@pytest.mark.parametrize("path", modules())
def test_banned_calls(path: str) -> None:
    found = {
        name: line for name, line in banned_uses(modules()[path]).items() if name not in ALLOWED.get(path, ())
    }
    assert not found, f"{path} uses {found}: take a Clock or an Rng"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("import time\ntime.time()", "time.time"),
        ("import time as t\nt.sleep(1)", "time.sleep"),
        ("from time import sleep\nsleep(1)", "time.sleep"),
        ("from datetime import datetime\ndatetime.now()", "datetime.datetime.now"),
        ("import datetime as dt\ndt.datetime.utcnow()", "datetime.datetime.utcnow"),
        ("import random\nrandom.choice([])", "random"),
        ("from random import choice", "random"),
        ("import numpy as np\nnp.random.rand()", "numpy.random"),
        ("from numpy import random", "numpy.random"),
        ("def f():\n    import secrets", "secrets"),
        ("import time\nclock = time.monotonic", "time.monotonic"),
    ],
)
def test_the_check_sees_them(text: str, name: str) -> None:
    assert name in banned_uses(ast.parse(text))


def test_what_is_allowed_is_used() -> None:
    for path, names in ALLOWED.items():
        assert names <= set(banned_uses(modules()[path])), f"{path} needs less than it is allowed"
