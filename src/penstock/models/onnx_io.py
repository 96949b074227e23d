"""Between tensors and an ONNX Runtime session: element types, columns as [n] or [n, 1], outputs by name."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np

from penstock.core.errors import InvalidInput, ModelFailed
from penstock.core.signature import Signature, TensorSpec
from penstock.core.tensors import Array, DataType, Tensors

__all__ = ["DATATYPES", "OnnxBinding", "Session", "SessionArgument", "open_session", "short_reason"]

DATATYPES: Mapping[str, DataType] = {
    "tensor(bool)": DataType.BOOL,
    "tensor(uint8)": DataType.UINT8,
    "tensor(uint16)": DataType.UINT16,
    "tensor(uint32)": DataType.UINT32,
    "tensor(uint64)": DataType.UINT64,
    "tensor(int8)": DataType.INT8,
    "tensor(int16)": DataType.INT16,
    "tensor(int32)": DataType.INT32,
    "tensor(int64)": DataType.INT64,
    "tensor(float16)": DataType.FP16,
    "tensor(float)": DataType.FP32,
    "tensor(double)": DataType.FP64,
    "tensor(string)": DataType.STRING,
}
"""Element types by the names that ONNX Runtime has for them."""

REASON_LENGTH_MAX = 300
LOG_FATAL_ONLY = 4
EXTERNAL_DATA_FOLDER = "session.model_external_initializers_file_folder_path"
NO_FOLDER = "/dev/null"
SHRINKS_ARENA = "memory.enable_memory_arena_shrinkage"


class SessionArgument(Protocol):
    """What a session says of an input or output: `shape` has names or None for axes of any length."""

    name: str
    type: str
    shape: list[int | str | None] | None


class Session(Protocol):
    """The part of `onnxruntime.InferenceSession` that is used here."""

    def get_inputs(self) -> list[SessionArgument]: ...
    def get_outputs(self) -> list[SessionArgument]: ...
    def run(
        self, output_names: list[str], input_feed: dict[str, Array], run_options: object = None
    ) -> list[Array]: ...


class OnnxBinding:
    """Runs tensors that conform to `signature` through `session`; what each one needs is planned once.

    A tensor [n] is fed to an input [n, 1], other element types are cast to the session's (FP64 to a float
    graph), and outputs come back in the signature's names, types and shapes. Where nothing has to be
    changed, nothing is copied and the tensors are fed as they are.

    Raises `InvalidInput` at once where names, or kinds of types, of session and signature do not match.
    """

    def __init__(self, session: Session, signature: Signature) -> None:
        arguments = {argument.name: argument for argument in session.get_inputs()}
        if set(arguments) != {spec.name for spec in signature.inputs}:
            raise signature.name_mismatch(arguments)
        self._session = session
        self._steps = tuple(
            step for spec in signature.inputs if (step := _input_step(spec, arguments[spec.name])) is not None
        )
        given = {argument.name for argument in session.get_outputs()}
        missing = [spec.name for spec in signature.outputs if spec.name not in given]
        if missing:
            raise InvalidInput(
                f"the graph has no outputs {missing}", where=missing[0], hint=f"it has {sorted(given)}"
            )
        self._outputs = signature.outputs
        self._output_names = [spec.name for spec in signature.outputs]

    def run(self, tensors: Tensors) -> Tensors:
        """The outputs for `tensors`. Blocks, without the GIL. Raises `ModelFailed` where the graph breaks."""
        try:
            arrays = self._session.run(self._output_names, self.feed(tensors))
        except Exception as error:
            # ONNX Runtime raises bare RuntimeErrors and a family of its own; neither is a person's fault here.
            raise ModelFailed(f"the ONNX graph failed: {short_reason(error)}") from error
        return self.collect(arrays)

    def shrink(self, tensors: Tensors) -> None:
        """Runs `tensors`, after which the session gives back what it keeps of the largest runs that it had: its
        arena never does so by itself. A few rows are enough.
        """
        import onnxruntime

        options = onnxruntime.RunOptions()
        options.add_run_config_entry(SHRINKS_ARENA, "cpu:0")
        with contextlib.suppress(Exception):  # whoever asks next sees what is wrong with it
            self._session.run(self._output_names, self.feed(tensors), options)

    def feed(self, tensors: Tensors) -> dict[str, Array]:
        """What the session is given: `tensors` themselves where they fit as they are."""
        if not self._steps:
            return tensors
        feed = dict(tensors)
        for step in self._steps:
            feed[step.name] = step.apply(feed[step.name])
        return feed

    def collect(self, arrays: list[Array]) -> Tensors:
        """The session's answers, in the order of the signature's outputs, as tensors of the signature."""
        collected: Tensors = {}
        for spec, array in zip(self._outputs, arrays, strict=True):
            fitting = array if array.dtype == spec.datatype.numpy else array.astype(spec.datatype.numpy)
            rank = len(spec.shape)
            if fitting.ndim != rank:
                fitting = fitting.reshape(len(fitting) if fitting.ndim else 1, *spec.shape[1:])
            collected[spec.name] = fitting
        return collected


class _InputStep(msgspec.Struct, frozen=True):
    """What has to be done to one tensor before it is fed."""

    name: str
    dtype: np.dtype[np.generic] | None
    as_column: bool

    def apply(self, array: Array) -> Array:
        if self.dtype is not None:
            # A float64 beyond float32 becomes infinite, which is what the narrower graph would see anyway.
            with np.errstate(over="ignore"):
                array = array.astype(self.dtype)
        return array.reshape(-1, 1) if self.as_column else array


def _input_step(spec: TensorSpec, argument: SessionArgument) -> _InputStep | None:
    datatype = DATATYPES.get(argument.type)
    if datatype is None or datatype.is_object != spec.datatype.is_object:
        raise InvalidInput(
            f"input {spec.name!r}: the signature has {spec.datatype.value}, the graph {argument.type}",
            where=spec.name,
        )
    dtype = None if datatype.numpy == spec.datatype.numpy else datatype.numpy
    rank = len(argument.shape or spec.shape)
    as_column = rank == len(spec.shape) + 1
    return _InputStep(spec.name, dtype, as_column) if dtype is not None or as_column else None


def open_session(source: Path | bytes, *, where: str, threads: int = 1) -> Session:
    """A session on so many threads over a graph in a file or in memory, which has to be whole.

    Raises `InvalidInput` where it is not an ONNX graph that ONNX Runtime can run; `where` names it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = LOG_FATAL_ONLY
    if isinstance(source, bytes):
        # Otherwise weights that the graph keeps in another file are looked for in the working folder.
        options.add_session_config_entry(EXTERNAL_DATA_FOLDER, NO_FOLDER)
    try:
        session: Session = onnxruntime.InferenceSession(
            source if isinstance(source, bytes) else str(source), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        if NO_FOLDER in str(error):
            raise InvalidInput(
                f"{where} keeps its weights in another file, and a version is one file",
                where=where,
                hint="save it as one: onnx.save_model(onnx.load(FILE), FILE, save_as_external_data=False)",
            ) from error
        raise InvalidInput(
            f"{where} is not an ONNX model that can run: {short_reason(error)}",
            where=where,
            hint="it may be truncated; check it with onnx.checker.check_model, or export it again",
        ) from error
    return session


def short_reason(error: BaseException) -> str:
    """The first line of an error that a library raised, for people: it names the kind where it says nothing."""
    lines = str(error).strip().splitlines()
    reason = lines[0].strip() if lines else ""
    if len(reason) > REASON_LENGTH_MAX:
        reason = reason[: REASON_LENGTH_MAX - 1] + "…"
    return reason or type(error).__name__
