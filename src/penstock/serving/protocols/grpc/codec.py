"""Between V2's gRPC messages and tensors, for one signature."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from penstock.core.errors import SHOWN_LENGTH_MAX, InvalidInput, shown
from penstock.core.signature import Signature, TensorSpec
from penstock.core.tensors import Array, DataType, Tensors
from penstock.serving.batching.outputs import BatchOutputs, BatchRows
from penstock.serving.protocols.grpc.libraries import Messages
from penstock.serving.protocols.grpc.wire import field, split_field, varint
from penstock.serving.protocols.v2.data import bf16_to_binary, from_binary, strings_to_binary
from penstock.serving.protocols.v2.parameters import (
    check_inference,
    check_output,
    check_tensor,
    priority_of,
    timeout_s,
)

__all__ = ["GrpcCodec", "GrpcRequest", "parse_request", "plain_parameters"]

AXES_MAX = 64
"""As many as numpy takes."""

LARGE_MESSAGE_BYTES = 32 * 1024
PARAMETERS_MAX = 256
"""Of a request, an output, or a model that is loaded."""

HEADS_MAX = 256
"""Answers' fields before their tensors that are kept, by what they depend on."""

_ID, _RAW_OUTPUTS, _RAW_INPUTS = 3, 6, 7
_RAW_OUTPUT_TAG = varint(_RAW_OUTPUTS << 3 | 2)
_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
_AS_IN_MEMORY = frozenset(_CONTENTS) - {"BOOL", "BYTES"} | {"FP16"}
"""Types whose raw bytes are those of the array."""

_WIRE_BYTES = {"BOOL": 1, "BF16": 2}
"""An element of the other types of numbers."""


class GrpcRequest(NamedTuple):
    """A decoded inference request. `wanted` are the outputs to give."""

    id: str
    tensors: Tensors
    wanted: tuple[str, ...]
    timeout_s: float | None
    priority: int | None


def parse_request(messages: Messages, raw: bytes) -> tuple[Any, Sequence[bytes]]:
    """The message in `raw`, and its raw tensors. Raises `InvalidInput` for what is no such message."""
    tensors: Sequence[bytes] | None = None
    if len(raw) > LARGE_MESSAGE_BYTES:
        # A parser would copy the tensors once more, and make thirty times its size of many empty fields.
        raw, tensors = split_field(raw, _RAW_INPUTS)
    try:
        message = messages.ModelInferRequest.FromString(raw)
    except Exception as error:  # protobuf's own, a ValueError or more: the bytes are at fault
        raise InvalidInput(f"the message is not a ModelInferRequest: {error}", where="message") from None
    return message, message.raw_input_contents if tensors is None else tensors


class GrpcCodec:
    """Decodes requests for one version and encodes its answers."""

    def __init__(self, messages: Messages, *, model: str, version: str, signature: Signature) -> None:
        self._messages = messages
        self._model = model
        self._version = version
        self._signature = signature
        self._inputs = {spec.name: (spec, spec.datatype.wire) for spec in signature.inputs}
        self._outputs = {spec.name: spec.datatype for spec in signature.outputs}
        self._all_outputs = tuple(self._outputs)
        self._heads: dict[tuple[object, ...], bytes] = {}

    def decode(self, message: Any, raw: Sequence[bytes]) -> GrpcRequest:
        """The request in a message whose raw tensors are `raw`.

        Raises `InvalidInput` with the field, the place in it and what was expected.
        """
        tensors = self._tensors(message.inputs, raw)
        wanted = self._wanted(message.outputs) if message.outputs else self._all_outputs
        parameters = message.parameters
        if not parameters:
            return GrpcRequest(message.id, tensors, wanted, None, None)
        given = plain_parameters(parameters)
        check_inference(given)
        return GrpcRequest(message.id, tensors, wanted, timeout_s(given), priority_of(given))

    def encode(self, request: GrpcRequest, answer: BatchRows) -> bytes:
        """The answer as it goes over the wire."""
        batch, start, stop = answer
        wanted = request.wanted
        chunks: list[bytes] = [b""]
        if request.id:
            chunks.append(field(_ID, request.id.encode()))
        shapes = []
        for name in wanted:
            array = batch.tensors[name]
            row_shape = array.shape[1:]
            shapes.append(row_shape)
            width = math.prod(row_shape)
            datatype = self._outputs[name]
            if datatype.is_object:
                raw = strings_to_binary(batch.flat(name)[start * width : stop * width])
            elif datatype is DataType.BF16:
                raw = bf16_to_binary(array[start:stop])
            else:
                width *= array.itemsize
                raw = batch.raw(name)[start * width : stop * width]
            chunks += (_RAW_OUTPUT_TAG, varint(len(raw)), raw)
        key = (wanted, stop - start, *shapes)
        chunks[0] = self._rung_head(key, batch) if batch.rung else self._heads.get(key) or self._head(key)
        return b"".join(chunks)

    def _head(self, key: tuple[Any, ...]) -> bytes:
        """All of an answer but its id and tensors."""
        head: bytes = self._response(key, self._model, self._version).SerializeToString()
        if len(self._heads) < HEADS_MAX:
            self._heads[key] = head
        return head

    def _rung_head(self, key: tuple[Any, ...], batch: BatchOutputs) -> bytes:
        """Likewise, of an answer that another rung gave."""
        response = self._response(key, batch.model, batch.version)
        response.parameters["rung"].string_param = batch.rung
        head: bytes = response.SerializeToString()
        return head

    def _response(self, key: tuple[Any, ...], model: str, version: str) -> Any:
        wanted, rows, *shapes = key
        output = self._messages.ModelInferResponse.InferOutputTensor
        return self._messages.ModelInferResponse(
            model_name=model,
            model_version=version,
            outputs=[
                output(name=name, datatype=self._outputs[name].wire, shape=(rows, *shape))
                for name, shape in zip(wanted, shapes, strict=True)
            ],
        )

    def _tensors(self, inputs: Any, raw: Sequence[bytes]) -> Tensors:
        tensors: Tensors = {}
        if len(inputs) > len(self._inputs):
            raise self._misnamed(inputs)
        if raw and len(raw) != len(inputs):
            for given in inputs:
                # One that is in shared memory is what is missing among the raw ones.
                check_tensor(given.parameters, given.name)
            raise InvalidInput(
                f"raw_input_contents has {len(raw)} tensors for {len(inputs)} inputs",
                where="raw_input_contents",
                hint="send one for each input, in their order, or typed contents for all of them",
            )
        for index, given in enumerate(inputs):
            name = given.name
            known = self._inputs.get(name)
            if known is None or name in tensors:
                raise self._misnamed(inputs)
            spec, wire = known
            if given.datatype != wire:
                raise InvalidInput(
                    f"input {shown(name)}: expected datatype {wire}, got {shown(given.datatype)}", where=name
                )
            if given.parameters:
                check_tensor(given.parameters, name)
            if raw:
                tensors[name] = _from_raw(raw[index], given, spec, wire)
            else:
                tensors[name] = _from_contents(given, spec, wire)
        return tensors

    def _misnamed(self, inputs: Any) -> InvalidInput:
        names: dict[str, None] = {}
        for given in inputs:
            if given.name in names:
                return InvalidInput(
                    f"input {shown(given.name)} is given twice", where=given.name[:SHOWN_LENGTH_MAX]
                )
            names[given.name] = None
        return self._signature.name_mismatch(names)

    def _wanted(self, requested: Any) -> tuple[str, ...]:
        wanted: dict[str, None] = {}
        for output in requested:
            name = output.name
            if name not in self._outputs or name in wanted:
                said = "output {} is asked for twice" if name in wanted else "unknown output {}"
                raise InvalidInput(
                    said.format(shown(name)),
                    where=name[:SHOWN_LENGTH_MAX],
                    hint=f"the model gives {', '.join(self._outputs)}",
                )
            if output.parameters:
                check_output(plain_parameters(output.parameters), name)
            wanted[name] = None
        return tuple(wanted)


def _from_raw(raw: bytes, given: Any, spec: TensorSpec, wire: str) -> Array:
    if given.HasField("contents") and given.contents.ByteSize():
        raise InvalidInput(
            f"input {shown(spec.name)} has typed contents beside raw_input_contents",
            where=spec.name,
            hint="send either, for all inputs of a request",
        )
    shape = _shape(given)
    if wire not in _AS_IN_MEMORY:
        return _from_binary(raw, spec, wire, shape)
    dtype = spec.dtype
    size = math.prod(shape) * dtype.itemsize
    if size != len(raw):
        raise _raw_size_mismatch(raw, spec, shape, size)
    try:
        return np.frombuffer(raw, dtype).reshape(shape)
    except ValueError:
        # Nothing, in a shape whose other axes pass any memory.
        raise InvalidInput(
            f"input {shown(spec.name)}: no array has the shape {shown(list(shape))}", where=spec.name
        ) from None


def _from_binary(raw: bytes, spec: TensorSpec, wire: str, shape: tuple[int, ...]) -> Array:
    if spec.numeric:
        size = math.prod(shape) * _WIRE_BYTES[wire]
        if size != len(raw):
            raise _raw_size_mismatch(raw, spec, shape, size)
    return from_binary(raw, spec, shape)


def _raw_size_mismatch(raw: bytes, spec: TensorSpec, shape: tuple[int, ...], size: int) -> InvalidInput:
    return InvalidInput(
        f"input {shown(spec.name)}: shape {shown(list(shape))} of {spec.datatype.wire} takes {shown(size)} "
        f"bytes, raw_input_contents has {len(raw)}",
        where=spec.name,
    )


def _from_contents(given: Any, spec: TensorSpec, wire: str) -> Array:
    shape = _shape(given)
    field_name = _CONTENTS.get(wire)
    if field_name is None:
        raise InvalidInput(
            f"input {shown(spec.name)}: {wire} has no typed contents",
            where=spec.name,
            hint="send it in raw_input_contents",
        )
    elements = getattr(given.contents, field_name)
    count = math.prod(shape)
    if len(elements) != count:
        raise InvalidInput(
            f"input {shown(spec.name)}: shape {shown(list(shape))} takes {shown(count)} elements, "
            f"{field_name} has {len(elements)}",
            where=spec.name,
            hint=f"{wire} is sent in {field_name}, or in raw_input_contents",
        )
    try:
        array: Array = (
            _objects(elements, spec) if spec.datatype.is_object else np.array(elements[:], spec.dtype)
        )
        return array.reshape(shape)
    except (OverflowError, ValueError) as error:
        raise InvalidInput(f"input {shown(spec.name)}: {error}", where=spec.name) from None


def _objects(elements: Any, spec: TensorSpec) -> Any:
    array = np.empty(len(elements), dtype=object)
    if spec.datatype is DataType.BYTES:
        array[:] = elements[:]
        return array
    for index, element in enumerate(elements):
        try:
            array[index] = element.decode()
        except UnicodeDecodeError as error:
            raise InvalidInput(
                f"input {shown(spec.name)}, element {index} is not UTF-8: {error.reason}", where=spec.name
            ) from None
    return array


def _shape(given: Any) -> tuple[int, ...]:
    axes = len(given.shape)
    if axes > AXES_MAX:
        raise InvalidInput(f"input {shown(given.name)}: a shape of {axes} axes", where=given.name)
    shape = tuple(given.shape)
    if not shape or min(shape) < 0:
        raise InvalidInput(
            f"input {shown(given.name)}: {shown(list(shape))} is not a shape",
            where=given.name,
            hint="give the length of each axis, the rows first",
        )
    return shape


def plain_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as REST has them: values by name, None for one that holds nothing.

    Raises `InvalidInput` for too many.
    """
    if len(parameters) > PARAMETERS_MAX:
        raise InvalidInput(f"{len(parameters)} parameters, where {PARAMETERS_MAX} may be", where="parameters")
    kinds = {name: parameter.WhichOneof("parameter_choice") for name, parameter in parameters.items()}
    return {name: kind and getattr(parameters[name], kind) for name, kind in kinds.items()}
