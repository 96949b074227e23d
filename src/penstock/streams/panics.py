"""Polars panics where it should raise: at a few values, expressions and damaged bytes."""

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["PolarsPanicked", "panics_as_errors"]


class PolarsPanicked(Exception):
    """Rust's panic, which comes as a `BaseException` that no `except Exception` would see."""


@contextmanager
def panics_as_errors() -> Iterator[None]:
    """Within it a panic of Polars is a `PolarsPanicked`; everything else stays as it is."""
    try:
        yield
    except BaseException as error:
        # Told by its name: the class is made anew by each library in Rust, and can be imported from none.
        if type(error).__name__ != "PanicException":
            raise
        raise PolarsPanicked(str(error)) from error
