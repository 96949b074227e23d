"""Predictions: outputs as MLflow's scoring form, NDJSON lines and columns have them."""

import math
from typing import Any

import msgspec

from penstock.core.signature import Signature
from penstock.core.tensors import DataType
from penstock.serving.batching.outputs import BatchRows

__all__ = ["RowsEncoder"]

_encoder = msgspec.json.Encoder()


class RowsEncoder:
    """Encodes the answers of one version. NaN and infinity become null, which is all that JSON offers."""

    def __init__(self, signature: Signature) -> None:
        self._outputs = signature.outputs
        self._names = [spec.name for spec in signature.outputs]

    def encode(self, answer: BatchRows, *, by_column: bool) -> bytes:
        """`{"predictions": …}`: of one output its values; of several a record for each row or, `by_column`,
        each output's values by its name.
        """
        columns = self._columns(answer)
        predictions: Any
        if len(columns) == 1:
            (predictions,) = columns
        elif by_column:
            predictions = dict(zip(self._names, columns, strict=True))
        else:
            names = self._names
            predictions = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
        return _encoder.encode({"predictions": predictions})

    def lines(self, answer: BatchRows) -> list[bytes]:
        """A record by output name for each row, without the ends of the lines."""
        names = self._names
        return [
            _encoder.encode(dict(zip(names, row, strict=True)))
            for row in zip(*self._columns(answer), strict=True)
        ]

    def _columns(self, answer: BatchRows) -> list[list[Any]]:
        """Each output's values, one a row: nested lists where rows have axes."""
        batch, start, stop = answer
        columns = []
        for spec in self._outputs:
            shape = batch.tensors[spec.name].shape[1:]
            width = math.prod(shape)
            values: list[Any] = batch.flat(spec.name)[start * width : stop * width]
            if spec.datatype is DataType.BYTES:
                values = [value.decode("utf-8", "backslashreplace") for value in values]
            for length in reversed(shape):
                values = [values[index : index + length] for index in range(0, len(values), length or 1)]
            columns.append(values if width else batch.tensors[spec.name][start:stop].tolist())
        return columns
