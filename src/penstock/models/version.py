"""A version: an immutable, content-addressed artifact of a model, and all that is known of it."""

import enum
from datetime import datetime

import msgspec

from penstock.core.signature import Signature

__all__ = ["Artifact", "Compilation", "Lineage", "ModelVersion", "Parity", "RuntimeKind", "SourceFormat"]


class SourceFormat(enum.Enum):
    """What kind of file a version was pushed from."""

    ONNX = "onnx"
    PICKLE = "pickle"
    """A joblib or pickle file: opening it runs code from it, so it has to be declared trusted."""
    XGBOOST = "xgboost"
    LIGHTGBM = "lightgbm"


class RuntimeKind(enum.Enum):
    """What executes a version."""

    ONNX = "onnx"
    NATIVE = "native"
    """The library that the model was made with, in a process of its own."""
    CALLABLE = "callable"
    """A Python callable declared in an app file, in a process of its own."""


class Artifact(msgspec.Struct, frozen=True, kw_only=True):
    """A stored file: its SHA-256 (hexadecimal), its size, and the name it is given when pulled."""

    digest: str
    size_bytes: int
    filename: str


class Parity(msgspec.Struct, frozen=True, kw_only=True):
    """How a compiled form compares with the native model, row by row on the sample rows.

    The gate: every label agrees and every probability (or regression value, relative to the scale of the
    outputs) differs by at most `tolerance`. `float32_rows` counts rows whose *native* answer moves when
    nothing but the inputs is rounded to float32: a value so close to a tree's threshold that the rounding
    carries it across. They are counted whether or not the compiled form gets them right.
    """

    rows: int
    tolerance: float
    labels_differ: int
    values_differ: int
    difference_max: float
    float32_rows: int

    @property
    def passed(self) -> bool:
        return self.labels_differ == 0 and self.values_differ == 0


class Compilation(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt to compile to ONNX: in which float type, with what parity, or why it was not possible."""

    precision: str
    parity: Parity | None
    failure: str | None = None

    @property
    def passed(self) -> bool:
        return self.parity is not None and self.parity.passed


class Lineage(msgspec.Struct, frozen=True, kw_only=True):
    """Where a version comes from: a reference to its data, the revision of its code, its parent's number."""

    data: str | None = None
    code: str | None = None
    parent: int | None = None


class ModelVersion(msgspec.Struct, frozen=True, kw_only=True):
    """Version `number` of `model`. `digest` covers everything but the number, the creator and the time.

    `source` is what was pushed, `compiled` its ONNX form where one passed the parity gate, `golden` sample
    inputs with the outputs that the native model gave (Arrow-free: a msgpack of tensors).
    """

    model: str
    number: int
    digest: str
    signature: Signature
    runtime: RuntimeKind
    format: SourceFormat
    source: Artifact
    compiled: Artifact | None
    golden: Artifact | None
    trusted_pickle: bool
    compilations: tuple[Compilation, ...]
    metrics: dict[str, float]
    parameters: dict[str, str | int | float | bool]
    lineage: Lineage
    creator: str
    created_at: datetime

    @property
    def executable(self) -> Artifact:
        """The file that the runtime loads."""
        return self.compiled if self.compiled is not None else self.source
