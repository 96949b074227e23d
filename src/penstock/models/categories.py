"""The categories that a model knows, found in the encoders that its columns reach first."""

from collections.abc import Iterator
from typing import Any

import numpy as np

__all__ = ["column_kinds", "known_categories"]

Category = str | int | float


def known_categories(model: Any) -> dict[str, tuple[Category, ...]]:
    """By column: the only values that the model knows, where another one is an error to it.

    Found are OneHotEncoder and OrdinalEncoder with `handle_unknown='error'`, behind any number of
    pipelines, column transformers and imputers. Floats are left out: NaN is no category that can be listed.
    """
    known: dict[str, tuple[Category, ...]] = {}
    for column, encoder, categories in _encoded_columns(model):
        if encoder.handle_unknown != "error" or categories.dtype.kind == "f":
            continue
        values = [value for value in categories.tolist() if isinstance(value, str | int)]
        known[column] = tuple(values)
    return known


def column_kinds(model: Any) -> dict[str, bool]:
    """By column that reaches an encoder: whether its categories are text."""
    return {
        column: any(isinstance(value, str) for value in categories.tolist())
        for column, _, categories in _encoded_columns(model)
    }


def _encoded_columns(model: Any) -> Iterator[tuple[str, Any, Any]]:
    names = getattr(model, "feature_names_in_", None)
    if names is not None:
        yield from _walk(model, [str(name) for name in names])


def _walk(step: Any, columns: list[str]) -> Iterator[tuple[str, Any, Any]]:
    """Column, encoder and categories, for every encoder that one of `columns` reaches unchanged."""
    if hasattr(step, "steps"):
        for _, inner in step.steps:
            yield from _walk(inner, columns)
            if not _keeps_columns(inner):
                return
    elif hasattr(step, "transformers_"):
        for _, inner, chosen in step.transformers_:
            picked = _picked(chosen, columns)
            if picked is not None:
                yield from _walk(inner, picked)
    elif hasattr(step, "categories_") and hasattr(step, "handle_unknown"):
        for column, categories in zip(columns, step.categories_, strict=False):
            yield column, step, np.asarray(categories)


def _keeps_columns(step: Any) -> bool:
    # What an imputer fills in is of the same kind, and it leaves alone whatever is there.
    return step == "passthrough" or (type(step).__name__ == "SimpleImputer" and not step.add_indicator)


def _picked(chosen: Any, columns: list[str]) -> list[str] | None:
    """The columns that a ColumnTransformer hands on; None for a choice that has no plain list of them."""
    if isinstance(chosen, str):
        return [chosen]
    if isinstance(chosen, slice):
        return (
            columns[chosen] if all(isinstance(end, int | None) for end in (chosen.start, chosen.stop)) else None
        )
    picked: list[Any] = np.atleast_1d(np.asarray(chosen)).tolist()
    if all(isinstance(choice, str) for choice in picked):
        return picked
    if all(type(choice) is bool for choice in picked):
        return [column for column, taken in zip(columns, picked, strict=False) if taken]
    if all(isinstance(choice, int) for choice in picked):
        return [columns[choice] for choice in picked]
    return None
