"""Signatures inferred: from a fitted model with sample rows, and from an ONNX graph."""

from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import numpy as np

from penstock.core.errors import InvalidInput, PenstockError
from penstock.core.signature import ANY, Signature, TensorSpec
from penstock.core.tensors import Array, DataType, Tensors, slice_rows
from penstock.models.categories import column_kinds, known_categories
from penstock.models.libraries.predictor import LABEL, PROBABILITIES, Predictor
from penstock.models.native import LibraryCall, NativeModel
from penstock.models.samples import Samples, to_tensors

if TYPE_CHECKING:
    import polars as pl

__all__ = ["MATRIX", "Runner", "infer_signature", "with_nan_places"]

MATRIX = "x"
"""The name of the input of a model that takes one matrix."""

PROBE_ROWS_MAX = 1024
"""A matrix is probed with NaN in this many of its columns at most."""
CLASSES_LISTED_MAX = 1000


class Runner(Protocol):
    """What answers tensors: a native model, or a graph under a binding."""

    def run(self, tensors: Tensors) -> Tensors: ...


def infer_signature(predictor: Predictor, samples: "Samples | None" = None) -> Signature:
    """The signature of a fitted model.

    Inputs: a tensor [-1] for each column where the model was fitted on a frame and the samples are one (or
    there are none); otherwise one matrix `x` [-1, features]. Element types are the samples'; a matrix of
    whole numbers is taken for one of numbers in general. Without samples numbers are FP64 (FP32 for an
    XGBoost booster, which keeps nothing wider) and columns that reach an encoder of text are STRING.
    Outputs: `label` and, where it has them, `probabilities` [-1, classes] in FP32, or `prediction` in FP32:
    what tree ensembles give in ONNX, so that both forms of a version have one signature. Classes are listed
    as the categories of `label`. Whether NaN has a place is tried out on the model itself.

    Raises `InvalidInput` where samples and model do not fit, and where a column's type is unknown.
    """
    inputs = _inputs(predictor, samples)
    rows = _neutral_row(inputs, predictor) if samples is None else _first_rows(inputs, samples, predictor)
    # NaN in the samples is for `to_tensors` to refuse, which says where: here the row has to be answered.
    outputs = _outputs(predictor, inputs, _finite_row(rows))
    signature = Signature(inputs=inputs, outputs=outputs)
    return with_nan_places(signature, NativeModel(predictor, signature), rows)


def with_nan_places(signature: Signature, runner: Runner, rows: Tensors) -> Signature:
    """`signature` with `nan` set for each input of floats where `runner` answers NaN with numbers.

    `rows` are rows that it is known to answer; the first one is tried with NaN in each place of one input
    at a time.
    """
    row = _finite_row(rows)
    inputs = tuple(
        msgspec.structs.replace(spec, nan=spec.datatype.is_float and _answers_nan(runner, row, spec))
        for spec in signature.inputs
    )
    return Signature(inputs=inputs, outputs=signature.outputs)


def _finite_row(rows: Tensors) -> Tensors:
    row: Tensors = {}
    for name, array in slice_rows(rows, 0, 1).items():
        row[name] = np.nan_to_num(array) if array.dtype.kind == "f" else array
    return row


def _answers_nan(runner: Runner, row: Tensors, spec: TensorSpec) -> bool:
    original = row[spec.name]
    places = min(int(np.prod(original.shape[1:])), PROBE_ROWS_MAX)
    probe = {name: np.repeat(array, places, axis=0) for name, array in row.items()}
    probe[spec.name].reshape(places, -1)[np.arange(places), np.arange(places)] = np.nan
    try:
        outputs = runner.run(probe)
    except PenstockError:
        return False
    return all(bool(np.isfinite(output).all()) for output in outputs.values() if output.dtype.kind == "f")


def _inputs(predictor: Predictor, samples: "Samples | None") -> tuple[TensorSpec, ...]:
    if predictor.column_names is None or isinstance(samples, np.ndarray):
        return (_matrix_input(predictor, samples),)
    kinds = column_kinds(predictor.model)
    known = known_categories(predictor.model)
    specs = []
    for name in predictor.column_names:
        if samples is None:
            datatype = DataType.STRING if kinds.get(name, False) else predictor.number_datatype
        else:
            datatype = _column_datatype(samples, name)
        categories = None if datatype.is_float else known.get(name)
        specs.append(TensorSpec(name=name, datatype=datatype, shape=(ANY,), categories=categories))
    return tuple(specs)


def _matrix_input(predictor: Predictor, samples: "Samples | None") -> TensorSpec:
    datatype = predictor.number_datatype
    features = predictor.features
    if isinstance(samples, np.ndarray):
        if samples.ndim != 2:
            raise InvalidInput(
                f"sample rows have shape {list(samples.shape)}", where="samples", hint="give [rows, features]"
            )
        features = features if features is not None else samples.shape[1]
        if samples.dtype.kind in "OUT":
            datatype = DataType.STRING
        elif samples.dtype.kind == "f" and samples.dtype.itemsize == 4:
            datatype = DataType.FP32
    elif samples is not None:
        features = features if features is not None else samples.width
        datatype = _frame_datatype(samples, predictor)
    return TensorSpec(name=MATRIX, datatype=datatype, shape=(ANY, ANY if features is None else features))


def _frame_datatype(samples: "pl.DataFrame", predictor: Predictor) -> DataType:
    import polars as pl

    names = predictor.feature_names or tuple(samples.columns)
    types = {samples.schema.get(name) for name in names}
    if types == {pl.String()}:
        return DataType.STRING
    return DataType.FP32 if types == {pl.Float32()} else predictor.number_datatype


def _column_datatype(samples: "pl.DataFrame", name: str) -> DataType:
    import polars as pl

    if name not in samples.columns:
        raise InvalidInput(
            f"sample rows have no column {name!r}, which the model was fitted on",
            where=name,
            hint=f"they have {', '.join(samples.columns)}",
        )
    dtype = samples.schema[name]
    if isinstance(dtype, pl.String | pl.Categorical | pl.Enum):
        return DataType.STRING
    if dtype == pl.Float32:
        return DataType.FP32
    if isinstance(dtype, pl.Float64 | pl.Decimal | pl.Null):
        return DataType.FP64
    if dtype.is_integer() or dtype == pl.Boolean:
        # Whole numbers with gaps are what pandas would have read as floats.
        return DataType.FP64 if samples[name].null_count() else DataType.of(_numpy_type(samples[name]))
    raise InvalidInput(
        f"sample rows, column {name!r}: a model cannot be fed {dtype}",
        where=name,
        hint="cast it to a number or to text, as when the model was fitted",
    )


def _numpy_type(series: "pl.Series") -> np.dtype[Any]:
    dtype: np.dtype[Any] = series.head(0).to_numpy().dtype
    return dtype


def _first_rows(inputs: tuple[TensorSpec, ...], samples: Samples, predictor: Predictor) -> Tensors:
    # Whether NaN has a place is not known yet, and the outputs are what these rows are to tell.
    lenient = tuple(msgspec.structs.replace(spec, nan=True) for spec in inputs)
    signature = Signature(inputs=lenient, outputs=lenient)
    return to_tensors(samples[:PROBE_ROWS_MAX], signature, columns=predictor.feature_names)


def _neutral_row(inputs: tuple[TensorSpec, ...], predictor: Predictor) -> Tensors:
    """A row that a model is likely to answer: zeros, and a known category where there is a list of them."""
    texts = {name: values[0] for name, values in known_categories(predictor.model).items() if values}
    row: Tensors = {}
    for spec in inputs:
        shape = tuple(1 if axis == ANY else axis for axis in spec.shape)
        value: object = texts.get(spec.name, "" if spec.datatype.is_object else 0)
        row[spec.name] = np.full(shape, value, dtype=spec.datatype.numpy)
    return row


def _outputs(predictor: Predictor, inputs: tuple[TensorSpec, ...], rows: Tensors) -> tuple[TensorSpec, ...]:
    answers = LibraryCall(predictor, inputs).answers(rows)
    return tuple(_output(name, answer, predictor.classes) for name, answer in answers.items())


def _output(name: str, answer: Array, classes: Array | None) -> TensorSpec:
    shape = (ANY, *answer.shape[1:])
    if name != LABEL:
        width = shape if name != PROBABILITIES or classes is None else (ANY, len(classes))
        return TensorSpec(name=name, datatype=DataType.FP32, shape=width)
    values = answer if classes is None else classes
    datatype = _label_datatype(values)
    listed = None
    if classes is not None and len(classes) <= CLASSES_LISTED_MAX and datatype is not DataType.BOOL:
        listed = tuple(values.astype(datatype.numpy).tolist())
    return TensorSpec(name=name, datatype=datatype, shape=shape, categories=listed)


def _label_datatype(values: Array) -> DataType:
    if values.dtype.kind == "O":
        values = np.array(values.tolist())  # classes may be numbers in an array of objects
    if values.dtype.kind == "b":
        return DataType.BOOL
    if values.dtype.kind in "iu":
        return DataType.INT64
    if values.dtype.kind == "f":
        # Classes 0.0 and 1.0 are whole numbers that went through a frame of floats.
        whole = bool(np.all(values.astype(np.float64) % 1 == 0))
        return DataType.INT64 if whole else DataType.FP64
    return DataType.STRING
