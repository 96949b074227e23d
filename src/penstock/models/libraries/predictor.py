"""What the rest of Penstock knows of a fitted model, whichever library made it."""

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from penstock.core.tensors import Array, DataType

if TYPE_CHECKING:
    import polars as pl

__all__ = ["LABEL", "PREDICTION", "PROBABILITIES", "Predictor", "Rows", "as_matrix"]

LABEL = "label"
"""The output with the class (or the cluster) of each row."""
PROBABILITIES = "probabilities"
"""The output with a column for each class, in the order of the label's categories."""
PREDICTION = "prediction"
"""The output of a regression."""

Rows: TypeAlias = "Array | pl.DataFrame | Any"
"""Rows as a library takes them: a matrix, or a frame with named columns (Polars or pandas)."""


class Predictor(Protocol):
    """A fitted model of one library."""

    library: str
    """The name of the library's distribution, for messages."""
    model: Any
    """The library's own object."""
    column_names: tuple[str, ...] | None
    """Names of the columns it was fitted on, in their order; None where it was fitted on a matrix."""
    feature_names: tuple[str, ...] | None
    """Names of its features where it has any, for picking columns out of a frame of samples."""
    features: int | None
    """How many features a row has; None where the library does not say."""
    number_datatype: DataType
    """The element type in which it takes numbers when nothing else says."""
    classes: Array | None
    """The classes of a classifier, in the order of its probabilities."""

    def predict(self, rows: Rows) -> dict[str, Array]:
        """The library's answers by output name, in the library's own types. Raises what the library raises."""
        ...


def as_matrix(rows: Rows) -> Array:
    """The rows as a matrix: a frame's columns in their order, in a type that holds all of them."""
    matrix: Array = rows if isinstance(rows, np.ndarray) else rows.to_numpy()
    return matrix
