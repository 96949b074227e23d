"""The library that reads and writes Delta tables, which only an app that names some has."""

import importlib
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from penstock.core.errors import ConfigurationError, InvalidInput

__all__ = ["check_deltalake", "delta_errors", "deltalake"]


def check_deltalake() -> None:
    """Raises `ConfigurationError` where it is missing; does not load it."""
    if importlib.util.find_spec("deltalake") is None:
        raise ConfigurationError(
            "Delta tables need deltalake, which is not installed", hint="pip install 'penstock[delta]'"
        )


def deltalake() -> ModuleType:
    check_deltalake()
    return importlib.import_module("deltalake")


@contextmanager
def delta_errors(what: str) -> Iterator[None]:
    """Within it what the library raises is an `InvalidInput`."""
    exceptions = importlib.import_module("deltalake.exceptions")
    try:
        yield
    except (OSError, ValueError, exceptions.DeltaError) as error:
        raise InvalidInput(f"{what}: {error}") from error
