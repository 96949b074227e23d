"""Sample rows: read from a file, and put into the tensors of a signature."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from penstock.core.errors import InvalidInput
from penstock.core.signature import ANY, Signature, TensorSpec
from penstock.core.tensors import Array, DataType, Tensors
from penstock.models.onnx_io import short_reason
from penstock.models.sample_arrays import read_npy, read_npz

if TYPE_CHECKING:
    import polars as pl

__all__ = ["SAMPLE_ROWS_MAX", "Samples", "read_samples", "to_tensors"]

SAMPLE_ROWS_MAX = 100_000
"""Rows that are read from a file; those after them are left alone."""

_OBJECTS = "arrays of Python objects are not unpickled: save numbers or text, as array.astype('float64') does"

Samples: TypeAlias = "pl.DataFrame | Array"


def read_samples(path: Path) -> Samples:
    """The first `SAMPLE_ROWS_MAX` rows of a file: a frame, or an array from .npy and .npz.

    Raises `InvalidInput` for a missing, unreadable or empty file and for a kind that is not known.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise InvalidInput(
            f"{path}: sample rows cannot be read from {path.suffix or 'a file without a suffix'}",
            where=str(path),
            hint=f"give one of {', '.join(_READERS)}",
        )
    if not path.is_file():
        raise InvalidInput(f"{path}: there is no such file", where=str(path))
    try:
        samples = reader(path)
    except InvalidInput:
        raise
    except Exception as error:
        # Polars, numpy and zipfile have a dozen kinds of errors for bytes that are not what the suffix says.
        raise InvalidInput(
            f"{path} cannot be read as {path.suffix}: {short_reason(error)}",
            where=str(path),
            hint=_OBJECTS if "allow_pickle" in str(error) else "it may be truncated or of another kind",
        ) from error
    if len(samples) == 0:
        raise InvalidInput(f"{path} has no rows", where=str(path))
    return samples


def to_tensors(samples: Samples, signature: Signature, *, columns: Sequence[str] | None = None) -> Tensors:
    """The samples as tensors that conform to `signature`; columns that it does not have are left out.

    `columns` names, in order, what a frame's columns have to be for a matrix; without it all of them are
    taken. Null becomes NaN in numbers.

    Raises `InvalidInput`, naming column and row, for what is missing, does not fit, or has no place.
    """
    if isinstance(samples, np.ndarray):
        return signature.conform({_only_input(signature).name: _matrix_of(samples, _only_input(signature))})
    if len(signature.inputs) == 1 and len(signature.inputs[0].shape) > 1:
        spec = signature.inputs[0]
        return signature.conform({spec.name: _stack(samples, spec, columns)})
    return signature.conform(
        {spec.name: _column(samples, spec.name, spec.datatype) for spec in signature.inputs}
    )


def _only_input(signature: Signature) -> TensorSpec:
    if len(signature.inputs) != 1:
        names = ", ".join(spec.name for spec in signature.inputs)
        raise InvalidInput(
            "sample rows without column names do not fit a model that takes columns",
            where="samples",
            hint=f"give a frame (.parquet, .csv, .json) with {names}",
        )
    return signature.inputs[0]


def _matrix_of(samples: Array, spec: TensorSpec) -> Array:
    if spec.datatype.is_object:
        return samples.astype(object)
    if samples.dtype.kind not in "biuf":
        raise InvalidInput(
            f"sample rows have elements of type {samples.dtype}, the model takes {spec.datatype.value}",
            where=spec.name,
        )
    return samples.astype(spec.datatype.numpy, copy=False)


def _stack(samples: "pl.DataFrame", spec: TensorSpec, columns: Sequence[str] | None) -> Array:
    names = list(columns or samples.columns)
    width = spec.shape[1]
    if width not in (ANY, len(names)):
        raise InvalidInput(
            f"sample rows have {len(names)} columns, input {spec.name!r} takes {width}",
            where=spec.name,
            hint="give the features alone, in the order in which the model was fitted",
        )
    return np.column_stack([_column(samples, name, spec.datatype) for name in names])


def _column(samples: "pl.DataFrame", name: str, datatype: DataType) -> Array:
    import polars as pl

    if name not in samples.columns:
        raise InvalidInput(
            f"sample rows have no column {name!r}",
            where=name,
            hint=f"they have {', '.join(samples.columns)}",
        )
    series = samples[name]
    if datatype.is_object:
        return _text(series)
    if series.dtype == pl.String or not (series.dtype.is_numeric() or series.dtype in (pl.Boolean, pl.Null)):
        raise InvalidInput(
            f"sample rows, column {name!r}: {series.dtype} where the model takes {datatype.value}",
            where=name,
            hint="cast it as it was when the model was fitted",
        )
    missing = series.is_null().arg_true()
    if len(missing) and not datatype.is_float:
        raise _no_place(name, missing[0], datatype)
    floating = series.cast(pl.Float64) if datatype.is_float else series
    return floating.to_numpy().astype(datatype.numpy)


def _text(series: "pl.Series") -> Array:
    import polars as pl

    missing = series.is_null().arg_true()
    if len(missing):
        raise _no_place(series.name, missing[0], DataType.STRING)
    return np.array(series.cast(pl.String).to_list(), dtype=object)


def _no_place(name: str, row: int, datatype: DataType) -> InvalidInput:
    return InvalidInput(
        f"sample rows, column {name!r}, row {row}: missing, which {datatype.value} has no place for",
        where=name,
        hint="fill it as requests will, for example with '' in text, or leave such rows out",
    )


def _read_parquet(path: Path) -> Samples:
    import polars as pl

    return pl.read_parquet(path, n_rows=SAMPLE_ROWS_MAX)


def _read_csv(path: Path) -> Samples:
    import polars as pl

    # The whole of what is read decides on the types: a float in row 20,000 is not a broken file.
    return pl.read_csv(path, n_rows=SAMPLE_ROWS_MAX, infer_schema_length=SAMPLE_ROWS_MAX)


def _read_json(path: Path) -> Samples:
    import polars as pl

    return pl.read_json(path, infer_schema_length=SAMPLE_ROWS_MAX).head(SAMPLE_ROWS_MAX)


def _read_ndjson(path: Path) -> Samples:
    import polars as pl

    return pl.read_ndjson(path, n_rows=SAMPLE_ROWS_MAX, infer_schema_length=SAMPLE_ROWS_MAX)


def _read_arrow(path: Path) -> Samples:
    import polars as pl

    return pl.read_ipc(path, n_rows=SAMPLE_ROWS_MAX)


def _read_npy(path: Path) -> Samples:
    return read_npy(path)[:SAMPLE_ROWS_MAX]


def _read_npz(path: Path) -> Samples:
    return read_npz(path)[:SAMPLE_ROWS_MAX]


_READERS: dict[str, Callable[[Path], Samples]] = {
    ".parquet": _read_parquet,
    ".csv": _read_csv,
    ".json": _read_json,
    ".ndjson": _read_ndjson,
    ".jsonl": _read_ndjson,
    ".arrow": _read_arrow,
    ".npy": _read_npy,
    ".npz": _read_npz,
}
