"""From cells as JSON has them to arrays, slowly and with an account of everything that is wrong."""

import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from penstock.core.errors import shown
from penstock.core.signature import ANY, TensorSpec
from penstock.core.tensors import Array, DataType
from penstock.serving.protocols.rows.fields import FieldErrors

__all__ = ["described", "objects_array", "to_array"]

CATEGORIES_SHOWN_MAX = 5
ROWS_AT_ONCE = 256
"""Looked at together: one by one only where something is wrong among them, which takes ten times as long."""

_BEYOND = {2: 65520, 4: 2**128 - 2**103, 8: 2**1024 - 2**970}
"""The first number that rounds to infinity, by the bytes of a float."""

_EXPECTED = {
    "b": "true or false",
    "i": "an integer",
    "u": "an integer that is not negative",
    "f": "a number",
    "O": "a string",
}
_TYPES: dict[str, tuple[type, ...]] = {"b": (bool,), "i": (int,), "u": (int,), "f": (int, float), "O": (str,)}


def to_array(
    cells: Sequence[Any], spec: TensorSpec, errors: FieldErrors, labels: Sequence[str] | None = None
) -> Array | None:
    """The array of an input from one cell a row: a scalar, or nested lists where the rows have axes.

    Null is NaN where the spec has a place for it. Mistakes go to `errors`, and the result is None then;
    `labels` name the columns that the cells' elements came from.
    """
    axes = _axes(spec, cells)
    flat: list[Any] = []
    checker = _Checker(spec, errors, labels)
    for first in range(0, len(cells), ROWS_AT_ONCE):
        some = cells[first : first + ROWS_AT_ONCE]
        right = checker.all_right(some, axes)
        flat += checker.one_by_one(some, axes, first) if right is None else right
        if errors.full:
            break
    if errors:
        return None
    shape = (len(cells), *(0 if axis == ANY else axis for axis in axes))
    if spec.dtype.kind == "O":
        return objects_array(flat, spec.datatype).reshape(shape)
    with np.errstate(over="ignore"):
        return np.array(flat, dtype=spec.dtype).reshape(shape)


def objects_array(elements: Sequence[Any], datatype: DataType) -> npt.NDArray[Any]:
    """Strings as STRING or (in UTF-8) as BYTES has them in memory."""
    array = np.empty(len(elements), dtype=object)
    if datatype is DataType.BYTES:
        array[:] = [element.encode() for element in elements]
    else:
        array[:] = elements
    return array


def described(value: object) -> str:
    """A JSON value as a message has it: scalars as they are, the rest by its kind and length."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return "an object"
    return shown(value)


def _axes(spec: TensorSpec, cells: Sequence[Any]) -> list[int]:
    """The axes of a row. Where the spec leaves a length open, the first row decides for all."""
    # A column may come as [n] where the spec says [n, 1], and the other way round.
    if len(spec.shape) == 1:
        return [1] if cells and all(isinstance(cell, list) and len(cell) == 1 for cell in cells) else []
    if not isinstance(cells[0] if cells else None, list):
        return [] if spec.shape[1:] in ((1,), (ANY,)) else list(spec.shape[1:])
    axes = []
    cell: Any = cells[0]
    for axis in spec.shape[1:]:
        given = isinstance(cell, list)
        axes.append(len(cell) if given and axis == ANY else axis)
        cell = cell[0] if given and cell else None
    return axes


def _flatten(cell: Any, axes: list[int], path: tuple[int, ...], flat: list[Any], checker: "_Checker") -> None:
    if len(path) == len(axes):
        flat.append(cell)
    elif not isinstance(cell, list) or len(cell) not in (axes[len(path)], *_any_length(axes[len(path)])):
        checker.misshapen(cell, axes, path)
    elif len(path) + 1 == len(axes):
        flat.extend(cell)
    else:
        for index, inner in enumerate(cell):
            _flatten(inner, axes, (*path, index), flat, checker)


def _any_length(axis: int) -> tuple[int, ...]:
    return (0,) if axis == ANY else ()


class _Checker:
    """Looks at elements one by one."""

    def __init__(self, spec: TensorSpec, errors: FieldErrors, labels: Sequence[str] | None) -> None:
        self._spec = spec
        self._errors = errors
        self._labels = labels
        self._kind = spec.dtype.kind
        self._types = _TYPES[self._kind]
        self._categories = None if spec.categories is None else frozenset(spec.categories)
        bound = np.iinfo(spec.dtype.str) if self._kind in "iu" else None
        self._bounds = None if bound is None else (int(bound.min), int(bound.max))
        self._beyond = _BEYOND[spec.dtype.itemsize] if self._kind == "f" else 0
        self.row = 0

    def all_right(self, cells: Sequence[Any], axes: list[int]) -> list[Any] | None:
        """The elements of some rows, None where one of them needs a closer look."""
        errors = FieldErrors()
        flat: list[Any] = []
        if axes:
            probe = _Checker(self._spec, errors, None)
            for cell in cells:
                _flatten(cell, axes, (), flat, probe)
        else:
            flat = list(cells)
        return None if errors or not self._all_fit(flat) else flat

    def one_by_one(self, cells: Sequence[Any], axes: list[int], first: int) -> list[Any]:
        """The elements of the rows from `first` on, as far as there is no more to tell than is told at once."""
        flat: list[Any] = []
        for self.row, cell in enumerate(cells, first):
            before = len(flat)
            _flatten(cell, axes, (), flat, self)
            for index in range(before, len(flat)):
                flat[index] = self.element(flat[index], index - before, axes)
                if self._errors.full:
                    return flat
        return flat

    def _all_fit(self, values: list[Any]) -> bool:
        if self._spec.nan:
            values = [value for value in values if value is not None]
        if not values:
            return True
        if not set(map(type, values)).issubset(self._types):
            return False
        if self._kind == "f":
            # min and max may pass over NaN, which alone does not equal itself.
            within = bool(-self._beyond < min(values) and max(values) < self._beyond)
            return within and all(map(operator.eq, values, values))
        if self._bounds is not None:
            return bool(self._bounds[0] <= min(values) and max(values) <= self._bounds[1])
        return self._categories is None or self._categories.issuperset(values)

    def misshapen(self, cell: Any, axes: list[int], path: tuple[int, ...]) -> None:
        length = axes[len(path)]
        expected = "a list" if length == ANY else f"a list of {length}"
        got = described(cell)
        place = self._spec.name + "".join(f"[{index}]" for index in path)
        self._errors.add(self.row, place, expected, got)

    def element(self, value: Any, index: int, axes: list[int]) -> Any:
        """The element as the array takes it."""
        wrong = self._wrong(value)
        if wrong is not None:
            self._errors.add(self.row, self._column(index, axes), wrong, described(value))
            return 0
        if self._kind in "iu":
            return int(value)
        return math.nan if value is None else value

    def _wrong(self, value: Any) -> str | None:
        """What is expected instead; None: the value fits."""
        if value is None:
            return None if self._spec.nan else f"{_EXPECTED[self._kind]} (there is no place for missing values)"
        if self._bounds is not None and isinstance(value, float) and value.is_integer():
            value = int(value)  # 3.0, as languages without integers and frames with gaps write it
        if type(value) not in self._types:
            return _EXPECTED[self._kind]
        if self._kind == "f" and not self._holds(value):
            return f"a number that {self._spec.datatype.value} can hold"
        if self._bounds is not None and not self._bounds[0] <= value <= self._bounds[1]:
            return f"an integer from {self._bounds[0]} to {self._bounds[1]}"
        if self._categories is not None and value not in self._categories:
            return self._known()
        return None

    def _holds(self, value: float) -> bool:
        if -self._beyond < value < self._beyond:
            return True
        # It becomes infinity, which has a place where NaN has one; an integer beyond every float does not.
        return self._spec.nan and (type(value) is float or -_BEYOND[8] < value < _BEYOND[8])

    def _known(self) -> str:
        categories = self._spec.categories or ()
        listed = ", ".join(shown(each) for each in categories[:CATEGORIES_SHOWN_MAX])
        more = len(categories) - CATEGORIES_SHOWN_MAX
        return f"one of {listed}" + (f" and {more} more" if more > 0 else "")

    def _column(self, index: int, axes: list[int]) -> str:
        if not axes:
            return self._spec.name
        if self._labels is not None and index < len(self._labels):
            return self._labels[index]
        place = ""
        for length in reversed(axes):
            place = f"[{index % max(length, 1)}]{place}"
            index //= max(length, 1)
        return self._spec.name + place if len(self._spec.shape) > 1 else self._spec.name
