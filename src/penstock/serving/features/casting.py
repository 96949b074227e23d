"""Features in the types of the inputs that they go into."""

from collections.abc import Mapping
from typing import Final

import numpy as np

from penstock.core.signature import TensorSpec
from penstock.core.tensors import Array, DataType
from penstock.features.timeline import Column, Mask

__all__ = ["all_fit", "cast", "fits", "fitted", "is_castable", "is_narrow"]

_FLOATS = frozenset(each for each in DataType if each.is_float)
_INTEGERS = frozenset(each for each in DataType if "INT" in each.value)
_BOUNDS: Final = {
    each: (int(np.iinfo(each.value.lower()).min), min(int(np.iinfo(each.value.lower()).max), 2**63 - 1))
    for each in _INTEGERS - {DataType.INT64}
}
"""What INT64 has of the values of other integers."""
_CASTABLE: Final[Mapping[DataType, frozenset[DataType]]] = {
    DataType.FP64: _FLOATS,
    DataType.INT64: _FLOATS | _INTEGERS,
    DataType.BOOL: _FLOATS | _INTEGERS | {DataType.BOOL},
}


def is_castable(feature: DataType, given: DataType) -> bool:
    """Whether a feature of the one type is of the same kind in the other, or of one that holds its kind."""
    return given in _CASTABLE[feature]


def is_narrow(feature: DataType, spec: TensorSpec) -> bool:
    """Whether there are values of the feature for which the input has no place."""
    shorter = feature is DataType.INT64 and spec.datatype in _INTEGERS - {DataType.INT64}
    return spec.restricted or shorter


def cast(column: Column, spec: TensorSpec) -> Array:
    """A feature's values as the input takes them. Those that do not fit come out as anything."""
    with np.errstate(over="ignore", invalid="ignore"):
        array: Array = column.astype(spec.dtype)
    return array.reshape(-1, 1) if len(spec.shape) == 2 else array


def fitted(column: Column, spec: TensorSpec, default: float) -> tuple[Column, Mask]:
    """The values, with the default where the input has no place for them; and where that is."""
    misfit = ~fits(column, spec)
    if not misfit.any():
        return column, misfit
    return np.where(misfit, column.dtype.type(default), column), misfit


def all_fit(column: Column, spec: TensorSpec) -> bool:
    """Whether `fits` is true everywhere, said sooner."""
    if spec.restricted and spec.datatype.is_float and not spec.nan and spec.categories is None:
        return bool(np.isfinite(cast(column, spec)).all())
    return bool(fits(column, spec).all())


def fits(column: Column, spec: TensorSpec) -> Mask:
    """Where the input has a place for the value: no NaN and no infinity where it takes none, no integer beyond
    its type, no category that it does not know.
    """
    good = np.ones(len(column), np.bool_)
    if spec.datatype in _BOUNDS and column.dtype.kind == "i":
        least, most = _BOUNDS[spec.datatype]
        good &= (column >= least) & (column <= most)
    if spec.restricted:
        values = cast(column, spec).ravel()
        if spec.datatype.is_float and not spec.nan:
            good &= np.isfinite(values.astype(np.float64))
        if spec.categories is not None:
            good &= np.isin(values, list(spec.categories))
    return good
