"""Signatures: names, element types and shapes of what a version takes and gives."""

import math
import re
from collections.abc import Mapping
from functools import cached_property
from typing import cast

import msgspec
import numpy as np

from penstock.core.errors import SHOWN_LENGTH_MAX, InvalidInput, shown
from penstock.core.tensors import Array, DataType, Tensors

__all__ = ["ANY", "Signature", "TensorSpec"]

ANY = -1
"""An axis of any length."""

CATEGORIES_SHOWN_MAX = 10
NAMES_SHOWN_MAX = 10
_NOTATION = re.compile(r"\s*(?P<datatype>\w+)\s*(?P<nan>\?)?\s*\[(?P<shape>[^\]]*)\]\s*")


class TensorSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, dict=True):
    """One named input or output.

    `shape` begins with the axis of rows, -1 unless the model is bound to a fixed number of them; another
    -1 is an axis of any length. `nan` says that NaN (and infinity) is a value that the model has a place
    for. `categories`, where given, are the only values that the model knows.
    """

    name: str
    datatype: DataType
    shape: tuple[int, ...]
    nan: bool = False
    categories: tuple[str | int | float, ...] | None = None

    @classmethod
    def parse(cls, name: str, notation: str) -> "TensorSpec":
        """A spec from its notation: `FP32[-1, 30]`, `STRING[-1]`; `FP32?[-1]` where NaN has a place.

        Raises `InvalidInput` with the notation and what is wrong in it.
        """
        match = _NOTATION.fullmatch(notation)
        if match is None:
            raise InvalidInput(
                f"tensor {shown(name)}: {shown(notation)} is not a type with a shape",
                where=name,
                hint="write for example 'FP32[-1, 30]': a V2 type, then the shape with -1 for the rows",
            )
        try:
            datatype = DataType(match["datatype"])
            shape = tuple(int(axis) for axis in match["shape"].split(","))
        except ValueError as error:
            known = ", ".join(datatype.value for datatype in DataType)
            raise InvalidInput(
                f"tensor {shown(name)}: {shown(notation)}: {str(error)[:SHOWN_LENGTH_MAX]}",
                where=name,
                hint=f"types are {known}",
            ) from None
        nan = match["nan"] is not None
        if nan and not datatype.is_float:
            raise InvalidInput(
                f"tensor {shown(name)}: {shown(notation)}: {datatype.value} has no NaN",
                where=name,
                hint="only FP16, FP32, FP64 and BF16 take a '?'",
            )
        return cls(name=name, datatype=datatype, shape=shape, nan=nan)

    def __post_init__(self) -> None:
        if not self.shape or any(axis < ANY for axis in self.shape) or self.shape[0] == 0:
            raise InvalidInput(
                f"tensor {shown(self.name)}: shape {list(self.shape)} has no axis of rows",
                where=self.name,
                hint="the first axis is the rows (-1 for any number), e.g. [-1, 30]",
            )

    @cached_property
    def dtype(self) -> np.dtype[np.generic]:
        """The element type in memory."""
        return self.datatype.numpy

    @cached_property
    def row_shape(self) -> tuple[int, ...] | None:
        """The shape of a row, where every axis but that of the rows is fixed; else None."""
        fixed = self.shape[0] == ANY and ANY not in self.shape[1:]
        return self.shape[1:] if fixed else None

    @cached_property
    def row_elements(self) -> int:
        """The number of elements of a row; 0 where `row_shape` is None."""
        return 0 if self.row_shape is None else math.prod(self.row_shape)

    @cached_property
    def numeric(self) -> bool:
        """Whether the elements are numbers or booleans."""
        return not self.datatype.is_object

    @cached_property
    def plain(self) -> bool:
        """Whether the elements travel in binary as they stand in memory."""
        return self.numeric and self.datatype is not DataType.BF16

    @cached_property
    def restricted(self) -> bool:
        """Whether some values of the element type are not allowed."""
        return self.categories is not None or (self.datatype.is_float and not self.nan)

    def describe(self) -> str:
        """The spec in its notation."""
        return f"{self.datatype.value}{'?' if self.nan else ''}{list(self.shape)}"

    def fit_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape under which an array of `shape` fits this spec; a column may come as [n] or [n, 1].

        Raises `InvalidInput` where it does not fit.
        """
        wanted = self.shape
        if len(shape) == len(wanted):
            for axis, length in zip(wanted, shape, strict=True):
                if axis not in (length, ANY):
                    break
            else:
                return shape
        elif len(shape) == len(wanted) + 1 and shape[-1] == 1:
            return self.fit_shape(shape[:-1])
        elif shape and len(shape) + 1 == len(wanted) and wanted[-1] in (1, ANY):
            return self.fit_shape((*shape, 1))
        raise InvalidInput(
            f"input {shown(self.name)}: expected shape {list(wanted)}, got {shown(list(shape))}",
            where=self.name,
        )

    def check_values(self, array: Array) -> None:
        """Raises `InvalidInput` for NaN or infinity that has no place, and for an unknown category."""
        if not self.nan and self.datatype.is_float:
            self._check_finite(array)
        if self.categories is not None:
            self._check_categories(array)

    def _check_finite(self, array: Array) -> None:
        # One dot product reads everything and is finite unless something is not (or its square overflows):
        # several times cheaper on small arrays than isfinite().all(), which then only confirms. `vdot`, unlike
        # `dot`, does not warn of an overflow.
        flat = cast("np.ndarray[tuple[int], np.dtype[np.float64]]", array.ravel())
        if flat.dtype.itemsize > 2 and math.isfinite(np.vdot(flat, flat)):
            return
        finite = np.isfinite(cast("np.ndarray[tuple[int, ...], np.dtype[np.float64]]", array))
        if finite.all():
            return
        place = tuple(int(index[0]) for index in np.nonzero(~finite))
        raise InvalidInput(
            f"input {shown(self.name)}, row {place[0]}: the model has no place for {array[place]}",
            where=self.name,
            hint="send a finite number; this model was not made for missing values",
        )

    def _check_categories(self, array: Array) -> None:
        assert self.categories is not None
        known = frozenset(self.categories)
        for row, value in enumerate(array.ravel().tolist()):
            if value not in known:
                listed = ", ".join(shown(category) for category in self.categories[:CATEGORIES_SHOWN_MAX])
                more = len(self.categories) - CATEGORIES_SHOWN_MAX
                raise InvalidInput(
                    f"input {shown(self.name)}, row {row}: unknown category {shown(value)}",
                    where=self.name,
                    hint=f"known are {listed}" + (f" and {more} more" if more > 0 else ""),
                )


class Signature(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """What a version takes and gives. All inputs of one request have the same number of rows."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @classmethod
    def of(cls, *, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> "Signature":
        """A signature from notations, as in `of(inputs={"x": "FP32[-1, 30]"}, outputs={"y": "FP32[-1]"})`."""
        return cls(
            inputs=tuple(TensorSpec.parse(name, notation) for name, notation in inputs.items()),
            outputs=tuple(TensorSpec.parse(name, notation) for name, notation in outputs.items()),
        )

    def __post_init__(self) -> None:
        for side, specs in (("inputs", self.inputs), ("outputs", self.outputs)):
            names = [spec.name for spec in specs]
            if not names:
                raise InvalidInput(f"a signature needs {side}", where=side)
            if len(set(names)) != len(names):
                raise InvalidInput(f"{side} {names} have a name twice", where=side)

    @property
    def rows_fixed(self) -> int | None:
        """The number of rows that the model is bound to, None where any will do."""
        bound = {spec.shape[0] for spec in (*self.inputs, *self.outputs)} - {ANY}
        return min(bound) if bound else None

    def conform(self, tensors: Mapping[str, Array]) -> Tensors:
        """The tensors as the model takes them: in the signature's order, each in its own shape.

        Raises `InvalidInput`, naming the input and the row, for a missing or surplus name, a wrong element
        type, rank or length, rows that disagree, no rows, NaN without a place and unknown categories.
        """
        if len(tensors) != len(self.inputs):
            raise self.name_mismatch(tensors)
        rows = -1
        conformed: Tensors = {}
        for spec in self.inputs:
            array = tensors.get(spec.name)
            if array is None:
                raise self.name_mismatch(tensors)
            if array.dtype != spec.dtype:
                raise InvalidInput(
                    f"input {shown(spec.name)}: expected {spec.datatype.value}, got {array.dtype}",
                    where=spec.name,
                )
            shape = array.shape
            if shape[1:] != spec.row_shape or not shape:
                shape = spec.fit_shape(shape)
                array = array.reshape(shape)
            if shape[0] != rows:
                rows = _check_rows(spec.name, shape[0], rows)
            if spec.restricted:
                spec.check_values(array)
            conformed[spec.name] = array
        return conformed

    def name_mismatch(self, given: Mapping[str, object]) -> InvalidInput:
        """The error for inputs whose names are not the signature's."""
        wanted = {spec.name: spec for spec in self.inputs}
        missing = [name for name in wanted if name not in given]
        surplus = [name for name in given if name not in wanted]
        said = [f"missing {_listed(missing)}"] if missing else []
        said += [f"unknown {_listed(surplus)}"] if surplus else []
        return InvalidInput(
            f"inputs do not match the model's: {', '.join(said)}",
            where=(missing or surplus)[0][:SHOWN_LENGTH_MAX],
            hint=f"the model takes {', '.join(f'{spec.name} {spec.describe()}' for spec in self.inputs)}",
        )


def _listed(names: list[str]) -> str:
    more = len(names) - NAMES_SHOWN_MAX
    listed = ", ".join(shown(name) for name in names[:NAMES_SHOWN_MAX])
    return f"[{listed}]" + (f" and {more} more" if more > 0 else "")


def _check_rows(name: str, rows: int, rows_so_far: int) -> int:
    """The number of rows, checked against the inputs before (-1: none yet). Raises `InvalidInput`."""
    if rows == 0:
        raise InvalidInput(f"input {shown(name)} has zero rows", where=name, hint="send at least one row")
    if rows_so_far not in (-1, rows):
        raise InvalidInput(
            f"input {shown(name)} has {rows} rows where the inputs before it have {rows_so_far}", where=name
        )
    return rows
