"""Whether what a rung gives can stand in for what the model gives."""

from collections.abc import Callable, Mapping

import numpy as np

from penstock.core.errors import ConfigurationError, InvalidInput, ModelFailed, shown
from penstock.core.signature import ANY, Signature, TensorSpec
from penstock.core.tensors import Array, DataType, Tensors, row_count
from penstock.serving.fallback.rungs import Constant

__all__ = ["check_backup", "constant_answer", "fitted", "outputs_of"]


def check_backup(model: str, signature: Signature, backup: str, other: Signature) -> None:
    """Raises `ConfigurationError`, naming the tensor, where `backup` cannot answer what `model` is asked.

    A backup takes the same inputs or some of them, and gives every output of the model, of the same type and
    shape.
    """
    inputs = {spec.name: spec for spec in signature.inputs}
    outputs = {spec.name: spec for spec in other.outputs}
    for spec in other.inputs:
        _check_pair(model, backup, "input", given=inputs.get(spec.name), taken=spec)
    for spec in signature.outputs:
        _check_pair(model, backup, "output", given=outputs.get(spec.name), taken=spec)


def _check_pair(model: str, backup: str, side: str, *, given: TensorSpec | None, taken: TensorSpec) -> None:
    """Whether every tensor of the one spec is one of the other."""
    if given is None:
        lacking = (model, backup) if side == "input" else (backup, model)
        said = f"{lacking[0]!r} has no {side} {shown(taken.name)}, which {lacking[1]!r} has"
    elif given.datatype is not taken.datatype or not _within(given.shape, taken.shape):
        theirs, ours = (given, taken) if side == "output" else (taken, given)
        said = (
            f"{side} {shown(taken.name)} is {theirs.describe()} in {backup!r}, {ours.describe()} in {model!r}"
        )
    else:
        return
    raise ConfigurationError(
        f"{backup!r} cannot be a fallback of {model!r}: {said}",
        hint="a backup takes the same inputs or some of them, and gives the same outputs",
    )


def _within(shape: tuple[int, ...], wider: tuple[int, ...]) -> bool:
    return len(shape) == len(wider) and all(
        there in (here, ANY) for here, there in zip(shape, wider, strict=True)
    )


def outputs_of(signature: Signature, tensors: Mapping[str, Array]) -> Tensors | None:
    """The signature's outputs among `tensors`, which another version may have given; None where they are not
    all there, of its types and shapes.
    """
    found: Tensors = {}
    for spec in signature.outputs:
        array = tensors.get(spec.name)
        if array is None or array.dtype != spec.dtype or not _within(array.shape, spec.shape):
            return None
        if spec.datatype.is_object and not _elements_are(array, _element(spec)):
            return None
        found[spec.name] = array
    return found


def _element(spec: TensorSpec) -> type:
    return str if spec.datatype is DataType.STRING else bytes


def _elements_are(array: Array, element: type) -> bool:
    return all(isinstance(each, element) for each in array.ravel().tolist())


def constant_answer(model: str, signature: Signature, constant: Constant) -> Callable[[int], Tensors]:
    """What gives the constant's outputs for so many rows.

    Raises `ConfigurationError` for an output that the model does not have, one that is missing, and a value
    that is not of its type and shape.
    """
    names = [spec.name for spec in signature.outputs]
    if set(names) != set(constant.values):
        raise ConfigurationError(
            f"model {model!r}: constant({', '.join(constant.values)}) gives other outputs than the model",
            hint=f"the model gives {', '.join(names)}: name them all",
        )
    rows = {spec.name: _constant_row(model, spec, constant.values[spec.name]) for spec in signature.outputs}

    def answer(count: int) -> Tensors:
        # Views: a million rows cost as much as one.
        return {name: np.broadcast_to(row, (count, *row.shape[1:])) for name, row in rows.items()}

    return answer


def _constant_row(model: str, spec: TensorSpec, value: object) -> Array:
    shape = tuple(1 if axis == ANY else axis for axis in spec.shape[1:])
    try:
        row = _cast(spec, value)
        filled = np.broadcast_to(row, shape) if ANY not in spec.shape[1:] else row
    except (TypeError, ValueError, OverflowError):
        raise _no_constant(model, spec, value) from None
    if not _within((1, *filled.shape), spec.shape):
        raise _no_constant(model, spec, value)
    if not spec.nan and spec.datatype.is_float and not np.isfinite(filled.astype(np.float64)).all():
        raise _no_constant(model, spec, value)
    kept = np.array(filled)[np.newaxis]
    kept.flags.writeable = False
    return kept


def _cast(spec: TensorSpec, value: object) -> Array:
    """The value in the output's type, where that loses nothing but digits after the point.

    Raises `TypeError`, `ValueError` or `OverflowError`.
    """
    if spec.datatype.is_object:
        boxed: Array = np.asarray(value, dtype=object)
        if not _elements_are(boxed, _element(spec)):
            raise TypeError
        return boxed
    given: Array = np.asarray(value)
    if given.dtype.kind not in "biuf" or (spec.dtype.kind == "b") is not (given.dtype.kind == "b"):
        raise TypeError
    cast: Array = given.astype(spec.dtype)
    if not spec.datatype.is_float and (cast != given).any():
        raise ValueError
    return cast


def _no_constant(model: str, spec: TensorSpec, value: object) -> ConfigurationError:
    return ConfigurationError(
        f"model {model!r}: constant {spec.name}={shown(value)} does not fit output {spec.describe()}",
        hint="give one value for all, or an array of a row's shape, of the output's type",
    )


def fitted(signature: Signature, outputs: object, rows: int) -> Tensors:
    """What a heuristic returned, as the model would give it. Raises `ModelFailed` where it does not fit."""
    if not isinstance(outputs, Mapping):
        raise ModelFailed(f"a heuristic returned {type(outputs).__name__}, not a dict of outputs")
    as_inputs = Signature(inputs=signature.outputs, outputs=signature.outputs)
    try:
        conformed = as_inputs.conform(
            {
                spec.name: np.asarray(outputs[spec.name]).astype(spec.dtype, casting="same_kind")
                for spec in signature.outputs
            }
        )
    except KeyError as missing:
        raise ModelFailed(f"a heuristic returned no output {missing}") from None
    except (InvalidInput, TypeError, ValueError) as error:
        said = str(error).replace("input ", "output ")
        raise ModelFailed(f"a heuristic answered against the model's signature: {said}") from None
    if row_count(conformed) != rows:
        raise ModelFailed(f"a heuristic gave {row_count(conformed)} rows for {rows}")
    return conformed
