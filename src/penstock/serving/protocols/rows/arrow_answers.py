"""Outputs as Arrow record batches, by way of Polars."""

import io
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.core.arrow.arrow_messages import END_OF_STREAM, ArrowMessages, MessageKind
from penstock.core.signature import Signature, TensorSpec
from penstock.core.tensors import Array, DataType
from penstock.serving.batching.outputs import BatchOutputs, BatchRows

if TYPE_CHECKING:
    import polars as pl

__all__ = ["ArrowEncoder"]


class ArrowEncoder:
    """Outputs as the messages of one stream: a schema first, then a record batch a call."""

    content_type = "application/vnd.apache.arrow.stream"

    def __init__(self, signature: Signature) -> None:
        self._outputs = signature.outputs
        self._begun = False

    def encode(self, answer: BatchRows) -> bytes:
        """The record batch of some rows, the schema before the first of them."""
        import polars as pl

        batch, start, stop = answer
        frame = pl.DataFrame([_series(spec, batch.tensors[spec.name][start:stop]) for spec in self._outputs])
        stream = io.BytesIO()
        # The oldest level: readers of every language know its types.
        frame.write_ipc_stream(stream, compat_level=pl.CompatLevel.oldest())
        kinds = (MessageKind.RECORDS,) if self._begun else (MessageKind.SCHEMA, MessageKind.RECORDS)
        self._begun = True
        messages = ArrowMessages(message_bytes_max=1 << 40).feed(stream.getvalue())
        return b"".join(message.content for message in messages if message.kind in kinds)

    def end(self) -> bytes:
        """What ends the stream; with it a schema, where there was no row."""
        if self._begun:
            return END_OF_STREAM
        empty = {spec.name: np.empty((0, *_fixed(spec)), dtype=spec.dtype) for spec in self._outputs}
        return self.encode(BatchRows(BatchOutputs(empty), 0, 0)) + END_OF_STREAM


def _series(spec: TensorSpec, array: Array) -> "pl.Series":
    import polars as pl

    if spec.dtype.kind == "O":
        kind: Any = pl.Binary if spec.datatype is DataType.BYTES else pl.String
        flat = pl.Series(spec.name, array.ravel().tolist(), dtype=kind)
    elif array.dtype == np.float16:
        flat = pl.Series(spec.name, array.astype(np.float32).ravel())
    else:
        flat = pl.Series(spec.name, np.ascontiguousarray(array).ravel())
    width = math.prod(array.shape[1:])
    if array.ndim == 1:
        return flat
    if not width:
        return pl.Series(spec.name, [[]] * len(array), dtype=pl.Array(flat.dtype, array.shape[1:]))
    return (
        flat.reshape((len(array), *array.shape[1:]))
        if len(array)
        else pl.Series(spec.name, [], dtype=pl.Array(flat.dtype, array.shape[1:]))
    )


def _fixed(spec: TensorSpec) -> tuple[int, ...]:
    return tuple(max(axis, 0) for axis in spec.shape[1:])
