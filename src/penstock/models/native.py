"""Native models: the library's own object, taking and giving tensors."""

from typing import Any

import numpy as np

from penstock.core.errors import InvalidInput, ModelFailed
from penstock.core.signature import Signature, TensorSpec
from penstock.core.tensors import Array, DataType, Tensors, row_count
from penstock.models.libraries.predictor import Predictor, Rows
from penstock.models.onnx_io import short_reason

__all__ = ["LibraryCall", "NativeModel", "as_output"]


class NativeModel:
    """A model run by the library that made it, under `signature`.

    Raises `InvalidInput` where the signature's inputs cannot be the model's.
    """

    def __init__(self, predictor: Predictor, signature: Signature) -> None:
        self.predictor = predictor
        self.signature = signature
        self._library = LibraryCall(predictor, signature.inputs)

    def run(self, tensors: Tensors) -> Tensors:
        """The answers for tensors that conform to the signature. Blocks.

        Raises `InvalidInput` where the library refuses the rows, with what it said, and `ModelFailed` where
        it breaks on them or answers against the signature.
        """
        answers = self._library.answers(tensors)
        outputs: Tensors = {}
        for spec in self.signature.outputs:
            if spec.name not in answers:
                raise ModelFailed(f"the model gave no output {spec.name!r}")
            outputs[spec.name] = as_output(answers[spec.name], spec.datatype)
        if any(len(output) != row_count(tensors) for output in outputs.values()):
            raise ModelFailed("the model did not answer every row")
        return outputs


class LibraryCall:
    """Hands tensors to a library in the form in which the model was fitted.

    A model fitted on a frame with named columns is given one again: Polars, or pandas where it refuses
    Polars. Every other model gets the matrix as it is.
    """

    def __init__(self, predictor: Predictor, inputs: tuple[TensorSpec, ...]) -> None:
        _check_inputs(predictor, inputs)
        self.predictor = predictor
        self._columns = predictor.column_names
        self._is_matrix = _takes_matrix(inputs)
        self._prefers_pandas = False

    def answers(self, tensors: Tensors) -> dict[str, Array]:
        """The library's answers in its own types. Raises `InvalidInput` and `ModelFailed` as `run` does."""
        try:
            return self._answers(tensors)
        except (ValueError, TypeError) as error:
            raise InvalidInput(
                f"the model refuses these rows: {short_reason(error)}",
                hint="compare them with the rows that the model was fitted on",
            ) from error
        except Exception as error:
            # A library may raise anything; whatever it is, it is the model that broke.
            raise ModelFailed(f"the model failed: {type(error).__name__}: {short_reason(error)}") from error

    def _answers(self, tensors: Tensors) -> dict[str, Array]:
        if self._columns is None:
            return self.predictor.predict(next(iter(tensors.values())))
        columns = self._as_columns(tensors)
        if self._prefers_pandas:
            return self.predictor.predict(_pandas_frame(columns))
        try:
            return self.predictor.predict(_polars_frame(columns))
        except Exception:
            # Refused frame or refused rows? Whatever pandas can do settles it; the first error is the clearer.
            answers = self._answers_on_pandas(columns)
            if answers is None:
                raise
            self._prefers_pandas = True
            return answers

    def _answers_on_pandas(self, columns: Tensors) -> dict[str, Array] | None:
        try:
            return self.predictor.predict(_pandas_frame(columns))
        except Exception:  # pandas is not installed, or the rows are refused in either kind of frame.
            return None

    def _as_columns(self, tensors: Tensors) -> Tensors:
        assert self._columns is not None
        if not self._is_matrix:
            return {name: tensors[name] for name in self._columns}
        (matrix,) = tensors.values()
        return {name: matrix[:, place] for place, name in enumerate(self._columns)}


def as_output(answer: Array, datatype: DataType) -> Array:
    """A library's answer in the signature's element type; text becomes `str` objects."""
    if datatype.is_object:
        return np.array(answer.tolist(), dtype=object)
    return answer if answer.dtype == datatype.numpy else answer.astype(datatype.numpy)


def _takes_matrix(inputs: tuple[TensorSpec, ...]) -> bool:
    return len(inputs) == 1 and len(inputs[0].shape) == 2


def _check_inputs(predictor: Predictor, inputs: tuple[TensorSpec, ...]) -> None:
    first = inputs[0]
    if _takes_matrix(inputs):
        if predictor.features is not None and first.shape[1] not in (-1, predictor.features):
            raise InvalidInput(
                f"input {first.name!r} has {first.shape[1]} columns, the model takes {predictor.features}",
                where=first.name,
            )
        return
    names = [spec.name for spec in inputs]
    wanted = predictor.column_names
    if wanted is None or sorted(names) != sorted(wanted):
        raise InvalidInput(
            f"inputs {names} are not the columns that the model was fitted on",
            where=names[0],
            hint=f"it takes {', '.join(wanted)}"
            if wanted
            else f"it takes one matrix [-1, {predictor.features}]",
        )


def _polars_frame(columns: Tensors) -> Rows:
    import polars as pl

    return pl.DataFrame(
        [
            pl.Series(name, column.tolist(), dtype=pl.String)
            if column.dtype == object
            else pl.Series(name, np.ascontiguousarray(column))
            for name, column in columns.items()
        ]
    )


def _pandas_frame(columns: Tensors) -> Any:
    import pandas as pd

    return pd.DataFrame(
        {name: column.tolist() if column.dtype == object else column for name, column in columns.items()}
    )
