"""`__all__` of every module is sorted and true."""

import ast
import importlib
import pkgutil

import pytest
from sources import modules

import penstock

# Run by their tools, never imported: Alembic's environment and revisions, and `python -m penstock`.
SCRIPTS = {
    "__main__.py",
    *(path for path in modules() if path.startswith("models/registry/migrations/")),
}
# Names that a tool looks up in a module, which are no part of what the module offers.
ENTRY_POINTS = {("models/runtimes/worker.py", "main")}
# Public by their names, and kept by these modules to themselves; the table only gets shorter.
UNLISTED: dict[str, set[str]] = {
    "models/registry/artifacts.py": {"describe", "open_source"},
    "models/registry/rows.py": {"digest_of"},
}

MODULES = [path for path in modules() if path not in SCRIPTS]


def sort_key(name: str) -> tuple[int, str]:
    """Constants, classes, then the rest: as ruff (RUF022) sorts them."""
    return (0 if name.isupper() and len(name) > 1 else 1 if name[0].isupper() else 2, name)


def exported(tree: ast.Module) -> list[str] | None:
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets
        ):
            names: list[str] = ast.literal_eval(node.value)
            return names
    return None


def defined(tree: ast.Module) -> set[str]:
    """Public functions and classes at the top level. What a decorator registers is reached through that."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {
        node.name
        for node in tree.body
        if isinstance(node, kinds)
        and not node.name.startswith("_")
        and not any(registers(decorator) for decorator in node.decorator_list)
    }


def registers(decorator: ast.expr) -> bool:
    """Whether it is Typer's `@….command(…)` or `@….callback(…)`."""
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return isinstance(called, ast.Attribute) and called.attr in ("command", "callback")


def dotted(path: str) -> str:
    inner = path.removesuffix(".py").removesuffix("__init__").rstrip("/").replace("/", ".")
    return f"penstock.{inner}".rstrip(".")


def test_every_module_is_read() -> None:
    found = {module.name for module in pkgutil.walk_packages(penstock.__path__, "penstock.")}
    named = {
        "penstock." + path.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for path in modules()
    }
    assert found <= named | {"penstock"}


@pytest.mark.parametrize("path", MODULES)
def test_exports(path: str) -> None:
    tree = modules()[path]
    names = exported(tree)
    if names is None:
        assert path.endswith("__init__.py"), f"{path} has no __all__"
        assert not defined(tree)
        return
    assert names == sorted(names, key=sort_key), f"__all__ of {path} is not sorted"
    assert len(names) == len(set(names))
    module = importlib.import_module(dotted(path))
    for name in names:
        assert hasattr(module, name), f"{path} exports {name!r}, which it does not have"
    missing = defined(tree) - set(names) - {name for at, name in ENTRY_POINTS if at == path}
    assert missing == UNLISTED.get(path, set()), f"{path} does not export {sorted(missing)}"


def test_packages_only_hand_names_on() -> None:
    for path, tree in modules().items():
        if path.endswith("__init__.py") and path not in SCRIPTS:
            assert not defined(tree), f"{path} defines something"
