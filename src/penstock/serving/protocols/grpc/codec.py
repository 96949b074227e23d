"""Between V2's gRPC messages and tensors, for one signature."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from penstock.core.errors import SHOWN_LENGTH_MAX, InvalidInput, Unsupported, shown
from penstock.core.signature import Signature, TensorSpec
from penstock.core.tensors import Array, DataType, Tensors
from penstock.serving.batching.outputs import BatchRows
from penstock.serving.batching.queue import DEFAULT_PRIORITY
from penstock.serving.protocols.grpc.libraries import Messages
from penstock.serving.protocols.grpc.wire import field, split_field, varint
from penstock.serving.protocols.v2.data import bf16_to_binary, from_binary, strings_to_binary

__all__ = ["GrpcCodec", "GrpcRequest", "parse_request"]

AXES_MAX = 64
"""As many as numpy takes."""

TIMEOUT_US_MAX = 10**18
PRIORITY_LOWEST = 4
LARGE_MESSAGE_BYTES = 32 * 1024
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
_SEQUENCE = ("sequence_id", "sequence_start", "sequence_end")
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
    priority: int


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
            return GrpcRequest(message.id, tensors, wanted, None, DEFAULT_PRIORITY)
        _no_sequence(parameters)
        return GrpcRequest(message.id, tensors, wanted, _timeout_s(parameters), _priority(parameters))

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
        chunks[0] = self._heads.get(key) or self._head(key)
        return b"".join(chunks)

    def _head(self, key: tuple[Any, ...]) -> bytes:
        """All of an answer but its id and tensors."""
        wanted, rows, *shapes = key
        output = self._messages.ModelInferResponse.InferOutputTensor
        response = self._messages.ModelInferResponse(
            model_name=self._model,
            model_version=self._version,
            outputs=[
                output(name=name, datatype=self._outputs[name].wire, shape=(rows, *shape))
                for name, shape in zip(wanted, shapes, strict=True)
            ],
        )
        head: bytes = response.SerializeToString()
        if len(self._heads) < HEADS_MAX:
            self._heads[key] = head
        return head

    def _tensors(self, inputs: Any, raw: Sequence[bytes]) -> Tensors:
        tensors: Tensors = {}
        if len(inputs) > len(self._inputs):
            raise self._misnamed(inputs)
        if raw and len(raw) != len(inputs):
            for given in inputs:
                # One that is in shared memory is what is missing among the raw ones.
                _no_shared_memory(given, "input")
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
                _no_shared_memory(given, "input")
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
                _no_shared_memory(output, "output")
                if "classification" in output.parameters:
                    raise Unsupported(
                        f"output {shown(name)}: classification is not offered",
                        where=name,
                        hint="ask without class_count and sort the scores",
                    )
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
    shape = tuple(given.shape)
    if len(shape) > AXES_MAX:
        raise InvalidInput(f"input {shown(given.name)}: a shape of {len(shape)} axes", where=given.name)
    if not shape or min(shape) < 0:
        raise InvalidInput(
            f"input {shown(given.name)}: {shown(list(shape))} is not a shape",
            where=given.name,
            hint="give the length of each axis, the rows first",
        )
    return shape


def _no_shared_memory(given: Any, side: str) -> None:
    if "shared_memory_region" in given.parameters:
        raise Unsupported(
            f"{side} {shown(given.name)}: shared memory is not offered",
            where=given.name,
            hint="send tensors in raw_input_contents",
        )


def _no_sequence(parameters: Mapping[str, Any]) -> None:
    for name in _SEQUENCE:
        if name not in parameters:
            continue
        kind = parameters[name].WhichOneof("parameter_choice")
        value = None if kind is None else getattr(parameters[name], kind)
        if value not in (None, 0, "", False):
            raise Unsupported(
                f"parameter {shown(name)} is {shown(value)}: sequences of requests are not offered",
                where=name,
                hint="leave it out; each request stands for itself",
            )


def _number(parameters: Mapping[str, Any], name: str, expected: str) -> float:
    """A parameter from 0, 0 where it is not given. Raises `InvalidInput`."""
    if name not in parameters:
        return 0
    parameter = parameters[name]
    kind = parameter.WhichOneof("parameter_choice")
    value = None if kind is None else getattr(parameter, kind)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise InvalidInput(f"parameter {shown(name)} is {shown(value)}, not {expected}", where=name)
    return value


def _timeout_s(parameters: Mapping[str, Any]) -> float | None:
    """V2's `timeout` is in microseconds; 0 means none, and so does what passes any patience."""
    timeout_us = _number(parameters, "timeout", "a number of microseconds")
    return timeout_us / 1e6 if 0 < timeout_us < TIMEOUT_US_MAX else None


def _priority(parameters: Mapping[str, Any]) -> int:
    """1 is the highest; 0 is the default, and what is lower than the lowest is the lowest."""
    priority = _number(parameters, "priority", "a priority: 1 is the highest")
    return int(min(priority, PRIORITY_LOWEST)) or DEFAULT_PRIORITY
