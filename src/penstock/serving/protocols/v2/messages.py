"""The messages of the Open Inference Protocol (V2), REST form.

Source: the KServe "Open Inference Protocol" specification and its binary tensor data extension.
"""

from typing import Any

import msgspec

from penstock.core.signature import Signature
from penstock.core.tensors import DataType

__all__ = [
    "EXTENSIONS",
    "ModelMetadata",
    "RequestedOutput",
    "Response",
    "ResponseOutput",
    "ServerMetadata",
    "TensorMetadata",
    "elements_type",
    "request_decoder",
]

EXTENSIONS = (
    "binary_tensor_data",
    "model_configuration",
    "model_repository",
    "model_repository(unload_dependents)",
    "parameters",
    "schedule_policy",
    "statistics",
)
"""By the names that Triton has for them.

`schedule_policy` are the parameters timeout and priority."""

Parameters = dict[str, Any]


class RequestedOutput(msgspec.Struct, frozen=True):
    """An output that the caller asks for."""

    name: str
    parameters: Parameters | None = None


class ResponseOutput(msgspec.Struct, omit_defaults=True):
    """One output tensor. `data` is absent where it follows in binary."""

    name: str
    datatype: str
    shape: list[int]
    parameters: Parameters | None = None
    data: list[Any] | None = None


class Response(msgspec.Struct, omit_defaults=True):
    """The answer to an inference."""

    model_name: str
    model_version: str
    outputs: list[ResponseOutput]
    id: str | None = None
    parameters: Parameters | None = None


class TensorMetadata(msgspec.Struct, frozen=True):
    """An input or output as metadata shows it."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class ModelMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """What a model takes and gives."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]

    @classmethod
    def of(cls, name: str, versions: list[str], platform: str, signature: Signature) -> "ModelMetadata":
        inputs, outputs = (
            [TensorMetadata(spec.name, spec.datatype.wire, spec.shape) for spec in specs]
            for specs in (signature.inputs, signature.outputs)
        )
        return cls(name=name, versions=versions, platform=platform, inputs=inputs, outputs=outputs)


class ServerMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """Who answers."""

    name: str
    version: str
    extensions: tuple[str, ...] = EXTENSIONS


# The element type that the decoder itself can insist on, where all inputs of a model share it.
_ELEMENTS: dict[DataType, type] = {
    DataType.BOOL: bool,
    DataType.FP16: float,
    DataType.FP32: float,
    DataType.FP64: float,
    DataType.BF16: float,
    DataType.BYTES: str,
    DataType.STRING: str,
}


def elements_type(signature: Signature) -> Any:
    """The type of JSON element that all inputs share, with None where null stands for NaN; None: no such."""
    elements = {_ELEMENTS.get(spec.datatype, int) for spec in signature.inputs}
    if len(elements) > 1:
        return None
    (element,) = elements
    return element | None if element is float and all(spec.nan for spec in signature.inputs) else element


def request_decoder(signature: Signature | None) -> msgspec.json.Decoder[Any]:
    """A decoder of inference requests.

    With a signature whose inputs share an element type the decoder insists on flat lists of it, which
    saves a pass over the data; with None it takes any JSON as data, for what the strict one refuses.
    """
    element = None if signature is None else elements_type(signature)
    data: Any = list if element is None else list.__class_getitem__(element)
    tensor = msgspec.defstruct(
        "RequestInput",
        [
            ("name", str),
            ("shape", tuple[int, ...]),
            ("datatype", str),
            ("data", data | None, None),
            ("parameters", Parameters | None, None),
        ],
    )
    request = msgspec.defstruct(
        "Request",
        [
            ("inputs", list[tensor]),  # type: ignore[valid-type]
            ("id", str | None, None),
            ("parameters", Parameters | None, None),
            ("outputs", list[RequestedOutput] | None, None),
        ],
    )
    return msgspec.json.Decoder(request)
