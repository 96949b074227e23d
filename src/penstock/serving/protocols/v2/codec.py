"""Between bytes and tensors: V2 JSON and the binary tensor extension, for one signature."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from penstock.core.errors import SHOWN_LENGTH_MAX, InvalidInput, shown
from penstock.core.signature import Signature, TensorSpec
from penstock.core.tensors import Array, DataType, Tensors
from penstock.serving.batching.outputs import BatchRows
from penstock.serving.protocols.v2.data import (
    bf16_to_binary,
    from_binary,
    from_json,
    strings_to_binary,
    to_json,
)
from penstock.serving.protocols.v2.messages import (
    RequestedOutput,
    Response,
    ResponseOutput,
    elements_type,
    request_decoder,
)
from penstock.serving.protocols.v2.parameters import (
    binary_size,
    check_inference,
    check_output,
    flag,
    priority_of,
    timeout_s,
)

__all__ = ["V2Codec", "V2Request", "WantedOutput"]

AXES_MAX = 64
"""As many as numpy takes."""

SURPLUS_MAX = 4096
"""A request with so many more inputs than the model has is refused by their number, not by their names."""

_encode = msgspec.json.Encoder().encode
_BINARY_OUTPUT = {"binary_data_output": True}
HEADS_MAX = 256
"""JSON heads of binary answers that are kept, by their number of rows."""


class WantedOutput(NamedTuple):
    """An output as answers name it."""

    name: str
    wire: str
    datatype: DataType
    row_shape: tuple[int, ...] | None


class V2Request(NamedTuple):
    """A decoded inference request. `wanted` are the outputs to give, and whether each goes in binary.

    `priority` is from 1, the highest, to 4; None where none is given.
    """

    id: str | None
    tensors: Tensors
    wanted: Sequence[tuple[WantedOutput, bool]]
    timeout_s: float | None
    priority: int | None = None


class V2Codec:
    """Decodes requests for one version and encodes its answers."""

    def __init__(self, *, model: str, version: str, signature: Signature) -> None:
        self._model = model
        self._version = version
        self._inputs = {spec.name: (spec, spec.datatype.wire) for spec in signature.inputs}
        self._outputs = {
            spec.name: WantedOutput(spec.name, spec.datatype.wire, spec.datatype, spec.row_shape)
            for spec in signature.outputs
        }
        self._signature = signature
        self._all_json = tuple((wanted, False) for wanted in self._outputs.values())
        self._all_binary = tuple((wanted, True) for wanted in self._outputs.values())
        sized = all(spec.plain and spec.row_shape is not None for spec in signature.outputs)
        self._rows_sized = tuple(
            (spec.name, spec.row_elements * spec.dtype.itemsize) for spec in signature.outputs if sized
        )
        """Outputs with the bytes of their rows, where all have rows of a fixed size; else none."""
        self._heads: dict[int, bytes] = {}
        self._decoder = request_decoder(signature)
        self._decoder_typed = elements_type(signature) is not None
        self._lenient_decoder = request_decoder(None)

    def decode(self, body: bytes, json_bytes: int | None) -> V2Request:
        """The request in `body`; its first `json_bytes` are JSON and the rest raw tensors, None: all is JSON.

        Raises `InvalidInput` with the field, the place in it and what was expected.
        """
        if json_bytes is None:
            message, typed = self._decode_message(body)
        else:
            if not 0 <= json_bytes <= len(body):
                raise InvalidInput(
                    f"Inference-Header-Content-Length is {json_bytes}, the body has {len(body)} bytes",
                    where="Inference-Header-Content-Length",
                )
            message, typed = self._decode_message(body[:json_bytes])
        tensors = self._tensors(message.inputs, body, json_bytes, typed)
        parameters = message.parameters
        if message.outputs is None:
            if parameters is None:
                return V2Request(message.id, tensors, self._all_json, None)
            if parameters == _BINARY_OUTPUT:
                return V2Request(message.id, tensors, self._all_binary, None)
        parameters = parameters or {}
        check_inference(parameters)
        return V2Request(
            message.id,
            tensors,
            self._wanted(message.outputs, parameters),
            timeout_s(parameters),
            priority_of(parameters),
        )

    def encode(self, request: V2Request, answer: BatchRows) -> tuple[bytes, int | None]:
        """The answer's body, and the length of its JSON where raw tensors follow it."""
        batch, start, stop = answer
        rung = batch.rung
        if request.wanted is self._all_binary and request.id is None and self._rows_sized and not rung:
            return self._encode_rows(answer)
        answered: list[ResponseOutput] = []
        chunks: list[bytes] = []
        for wanted, binary in request.wanted:
            array = batch.tensors[wanted.name]
            width = 1 if array.ndim == 1 else math.prod(array.shape[1:])
            output = ResponseOutput(wanted.name, wanted.wire, [stop - start, *array.shape[1:]])
            first, last = start * width, stop * width
            if not binary:
                output.data = to_json(batch.flat(wanted.name)[first:last], wanted.datatype)
            elif wanted.datatype.is_object:
                chunks.append(strings_to_binary(batch.flat(wanted.name)[first:last]))
                output.parameters = {"binary_data_size": len(chunks[-1])}
            elif wanted.datatype is DataType.BF16:
                chunks.append(bf16_to_binary(array[start:stop]))
                output.parameters = {"binary_data_size": len(chunks[-1])}
            else:
                size = array.itemsize
                chunks.append(batch.raw(wanted.name)[first * size : last * size])
                output.parameters = {"binary_data_size": (last - first) * size}
            answered.append(output)
        response = Response(self._model, self._version, answered, request.id)
        if rung:
            response.model_name, response.model_version = batch.model, batch.version
            response.parameters = {"rung": rung}
        head = _encode(response)
        if not chunks:
            return head, None
        return b"".join((head, *chunks)), len(head)

    def _encode_rows(self, answer: BatchRows) -> tuple[bytes, int]:
        """All outputs in binary, rows of a fixed size each: the JSON depends on nothing but their number."""
        batch, start, stop = answer
        head = self._heads.get(stop - start)
        chunks = []
        for name, size in self._rows_sized:
            chunks.append(batch.raw(name)[start * size : stop * size])
        if head is None:
            outputs = [
                ResponseOutput(
                    name,
                    wanted.wire,
                    [stop - start, *(wanted.row_shape or ())],
                    {"binary_data_size": len(chunk)},
                )
                for (name, wanted), chunk in zip(self._outputs.items(), chunks, strict=True)
            ]
            head = _encode(Response(self._model, self._version, outputs))
            if len(self._heads) < HEADS_MAX:
                self._heads[stop - start] = head
        return b"".join((head, *chunks)), len(head)

    def _decode_message(self, body: bytes) -> tuple[Any, bool]:
        """The message, and whether the decoder itself has seen to the types of its elements."""
        try:
            return self._decoder.decode(body), self._decoder_typed
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            # Nested data, nulls and mistakes: the lenient decoder and from_json tell them apart.
            pass
        try:
            return self._lenient_decoder.decode(body), False
        except msgspec.ValidationError as error:
            raise InvalidInput(f"the request is not a V2 inference request: {error}") from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidInput(f"the body is not JSON: {error}", where="body") from None
        except RecursionError:
            raise InvalidInput("the body is nested too deeply", where="body") from None

    def _tensors(self, inputs: Sequence[Any], body: bytes, json_bytes: int | None, typed: bool) -> Tensors:
        if len(inputs) > len(self._inputs) + SURPLUS_MAX:
            raise InvalidInput(
                f"the request has {len(inputs)} inputs, the model takes {len(self._inputs)}", where="inputs"
            )
        tensors: Tensors = {}
        raw_end = len(body)
        offset = raw_end if json_bytes is None else json_bytes
        for given in inputs:
            name = given.name
            known = self._inputs.get(name)
            if known is None or name in tensors:
                raise self._misnamed(inputs)
            spec, wire = known
            if given.datatype != wire:
                raise InvalidInput(
                    f"input {shown(name)}: expected datatype {wire}, got {shown(given.datatype)}", where=name
                )
            size = None if given.parameters is None else binary_size(given.parameters, name)
            if size is None:
                tensors[name] = self._from_json(given, spec, typed)
                continue
            if offset + size > raw_end:
                raise InvalidInput(
                    f"input {shown(name)}: binary_data_size is {shown(size)}, but the body has "
                    f"{raw_end - offset} bytes left for it",
                    where=name,
                    hint="Inference-Header-Content-Length says where the JSON ends and raw tensors begin",
                )
            # A slice of bytes is a copy that is aligned, which raw tensors in the body need not be.
            tensors[name] = from_binary(body[offset : offset + size], spec, _shape(given))
            offset += size
        if offset != raw_end:
            raise InvalidInput(
                f"the body has {raw_end - offset} bytes more than the inputs' binary_data_size account for",
                where="body",
            )
        return tensors

    def _from_json(self, given: Any, spec: TensorSpec, typed: bool) -> Array:
        data, shape = given.data, given.shape
        if data is None:
            raise InvalidInput(
                f"input {shown(spec.name)} has no data",
                where=spec.name,
                hint="send `data`, or a binary tensor with the parameter binary_data_size",
            )
        usual = typed and spec.plain and shape and shape[1:] == spec.row_shape
        if usual and len(data) == shape[0] * spec.row_elements:
            try:
                return np.array(data, dtype=spec.dtype).reshape(shape)
            except (OverflowError, ValueError):
                pass  # from_json says what is wrong
        return from_json(data, spec, _shape(given), typed=typed)

    def _misnamed(self, inputs: Sequence[Any]) -> InvalidInput:
        names: dict[str, None] = {}
        for given in inputs:
            if given.name in names:
                return InvalidInput(
                    f"input {shown(given.name)} is given twice", where=given.name[:SHOWN_LENGTH_MAX]
                )
            names[given.name] = None
        return self._signature.name_mismatch(names)

    def _wanted(
        self, requested: Sequence[RequestedOutput] | None, parameters: Mapping[str, Any]
    ) -> Sequence[tuple[WantedOutput, bool]]:
        binary_default = flag(parameters, "binary_data_output", default=False)
        if not requested:
            return self._all_binary if binary_default else self._all_json
        wanted: dict[str, tuple[WantedOutput, bool]] = {}
        for output in requested:
            known = self._outputs.get(output.name)
            if known is None or output.name in wanted:
                said = "unknown output {}" if known is None else "output {} is asked for twice"
                raise InvalidInput(
                    said.format(shown(output.name)),
                    where=output.name[:SHOWN_LENGTH_MAX],
                    hint=f"the model gives {', '.join(self._outputs)}",
                )
            own = output.parameters or {}
            check_output(own, output.name)
            binary = flag(own, "binary_data", default=binary_default)
            wanted[output.name] = (known, binary)
        return tuple(wanted.values())


def _shape(given: Any) -> tuple[int, ...]:
    shape: tuple[int, ...] = given.shape
    if len(shape) > AXES_MAX:
        raise InvalidInput(f"input {shown(given.name)}: a shape of {len(shape)} axes", where=given.name)
    if not shape or min(shape) < 0:
        raise InvalidInput(
            f"input {shown(given.name)}: {shown(list(shape))} is not a shape",
            where=given.name,
            hint="give the length of each axis, the rows first",
        )
    return shape
