"""Polars panics where it should raise: at a few values, expressions and damaged bytes."""

from types import TracebackType

__all__ = ["PolarsPanicked", "panics_as_errors"]


class PolarsPanicked(Exception):
    """Rust's panic, which comes as a `BaseException` that no `except Exception` would see."""


class _PanicsAsErrors:
    """A class, as it is entered several times with each frame: a generator takes five times as long."""

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Told by its name: the class is made anew by each library in Rust, and can be imported from none.
        if kind is not None and kind.__name__ == "PanicException":
            raise PolarsPanicked(str(error)) from error


_panics_as_errors = _PanicsAsErrors()


def panics_as_errors() -> _PanicsAsErrors:
    """Within it a panic of Polars is a `PolarsPanicked`; everything else stays as it is."""
    return _panics_as_errors
