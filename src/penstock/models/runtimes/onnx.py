"""ONNX Runtime, in the server's own process: it lets go of the GIL while it runs."""

from pathlib import Path

from penstock.core.signature import Signature
from penstock.core.tensors import Tensors
from penstock.models.formats import read_verified
from penstock.models.onnx_io import OnnxBinding, open_session

__all__ = ["OnnxRuntime"]


class OnnxRuntime:
    """A `Runtime` over an ONNX graph in a file. It cannot be stopped in a run.

    Raises `CorruptArtifact` where the file's SHA-256 is not `digest`, before anything of it is parsed.
    """

    def __init__(self, path: Path, signature: Signature, *, digest: str, threads: int = 1) -> None:
        graph = read_verified(path, digest)
        self._graph_bytes = len(graph)
        session = open_session(graph, where=str(path), threads=threads)
        self._binding: OnnxBinding | None = OnnxBinding(session, signature)
        self._signature = signature

    @property
    def signature(self) -> Signature:
        return self._signature

    def run(self, tensors: Tensors, timeout_s: float) -> Tensors:  # noqa: ARG002 - see the port
        assert self._binding is not None, "the runtime is closed"
        return self._binding.run(tensors)

    @property
    def fault(self) -> str | None:
        return None

    @property
    def memory_bytes(self) -> int:
        """The session holds the graph's weights, and forms of them that suit its kernels better."""
        return 2 * self._graph_bytes

    def revive(self) -> None:
        """It cannot be down."""

    def rest(self, inputs: Tensors) -> None:
        if self._binding is not None:
            self._binding.shrink(inputs)

    def close(self) -> None:
        self._binding = None
