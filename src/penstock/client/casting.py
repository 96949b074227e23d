"""What users hand over, as arrays of the types that a model takes: safely, or with an error."""

from typing import Any

import numpy as np
import numpy.typing as npt

from penstock.core.errors import InvalidInput, shown
from penstock.core.signature import TensorSpec
from penstock.core.tensors import Array

__all__ = ["cast"]

FP16_MAX = 65504.0


def cast(value: object, spec: TensorSpec) -> Array:
    """`value` (an array, a list, a column of a frame) in the type and shape of the input `spec`.

    Whole numbers become another type where it holds each of them exactly; floats become a narrower float type
    by rounding, as long as none turns into infinity. Nothing else is changed: floats are never cut to whole
    numbers, and text is never read as a number. Raises `InvalidInput` naming the input, and the row.
    """
    given = _as_array(value, spec)
    array = _objects(given, spec) if spec.datatype.is_object else _numbers(given, spec)
    if array.ndim == 0:
        raise InvalidInput(
            f"input {shown(spec.name)} is a single value",
            where=spec.name,
            hint="the first axis is the rows: give a list or an array",
        )
    return array.reshape(spec.fit_shape(array.shape))


def _as_array(value: object, spec: TensorSpec) -> npt.NDArray[Any]:
    if isinstance(value, np.ndarray) and value.dtype.kind != "O":
        return value
    try:
        # Text has to stay text: an array of it and numbers together would turn the numbers into text.
        if spec.datatype.is_object:
            return np.array(value, dtype=object)
        array = np.asarray(value)
        # A column of a frame may be objects that are numbers.
        return np.array(array.tolist()) if array.dtype.kind == "O" else array
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidInput(
            f"input {shown(spec.name)} is no array: {error}",
            where=spec.name,
            hint=f"the model takes {spec.describe()}",
        ) from None


def _numbers(array: npt.NDArray[Any], spec: TensorSpec) -> Array:
    wanted = spec.dtype
    if array.dtype == wanted:
        return np.ascontiguousarray(array)
    have, want = array.dtype.kind, wanted.kind
    if have in "iu" and want in "iuf":
        return _whole(array, spec)
    if have == "f" and want == "f":
        with np.errstate(over="ignore"):
            rounded = array.astype(wanted)
        _require(np.isfinite(rounded) | ~np.isfinite(array), array, spec)
        return rounded
    if not array.size and array.dtype == np.float64:
        return array.astype(wanted)  # An empty list has no type of its own.
    raise InvalidInput(
        f"input {shown(spec.name)}: expected {spec.datatype.wire}, got {array.dtype}",
        where=spec.name,
        hint=f"convert it first, for example with .astype({wanted.name!r})"
        if have in "biuf"
        else f"the model takes {spec.describe()}",
    )


def _whole(array: npt.NDArray[Any], spec: TensorSpec) -> Array:
    wanted = spec.dtype
    if wanted.kind == "f":
        with np.errstate(over="ignore"):
            converted = array.astype(wanted)
        # Beyond 2^63 a float turned back is not defined; such a one was not exact but for the powers of two.
        bound = FP16_MAX if wanted.itemsize == 2 else 2.0**63
        kept = np.abs(converted.astype(np.float64)) < bound
        kept &= np.where(kept, converted, 0).astype(array.dtype) == array
    else:
        limits = np.iinfo(wanted.str)
        ends = (int(array.min()), int(array.max())) if array.size else (0, 0)
        if limits.min <= ends[0] and ends[1] <= limits.max:
            return array.astype(wanted)
        fits = [limits.min <= each <= limits.max for each in array.ravel().tolist()]
        kept = np.array(fits).reshape(array.shape)
        converted = array
    _require(kept, array, spec)
    return converted


def _require(kept: npt.NDArray[np.bool_], array: npt.NDArray[Any], spec: TensorSpec) -> None:
    """Raises `InvalidInput` for the first element that the model's type cannot hold."""
    if kept.all():
        return
    place = tuple(int(index[0]) for index in np.nonzero(~kept))
    row = f", row {place[0]}" if place else ""
    raise InvalidInput(
        f"input {shown(spec.name)}{row}: {spec.datatype.wire} cannot hold {array[place]}",
        where=spec.name,
        hint="convert it first, in a way that you know to be right",
    )


def _objects(array: npt.NDArray[Any], spec: TensorSpec) -> Array:
    if array.dtype.kind in "US":
        return array.astype(object)
    if array.dtype.kind == "O":
        for index, element in enumerate(array.ravel().tolist()):
            if not isinstance(element, str | bytes):
                raise InvalidInput(
                    f"input {shown(spec.name)}, element {index}: expected text or bytes, got {shown(element)}",
                    where=spec.name,
                )
        return array
    raise InvalidInput(f"input {shown(spec.name)}: expected text or bytes, got {array.dtype}", where=spec.name)
