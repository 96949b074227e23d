"""Tensors in memory that two processes share.

An arena is the memory of an unlinked temporary file. It has no name, so nothing of it is left behind
however its owners end. One process writes, the other reads what a message tells it is there; they take
turns, so there is nothing to lock.
"""

import contextlib
import mmap
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import msgspec
import numpy as np

from penstock.core.tensors import Array, Tensors

__all__ = ["Arena", "TensorLayout"]

ALIGNMENT_BYTES = 64
ARENA_BYTES_MIN = 1 << 20
# Where the operating system offers a folder in memory; elsewhere the page cache does nearly as well.
_MEMORY_FOLDER = Path("/dev/shm")  # noqa: S108 - unlinked at once, mode 0600


class TensorLayout(msgspec.Struct, frozen=True, array_like=True):
    """Where in the arena a tensor stands. `kind` is a numpy dtype, or `str` or `bytes` for elements of
    varying length: those are int64 offsets (one more than there are elements), then the bytes themselves.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    offset: int
    size_bytes: int


class Arena:
    """Shared memory that grows as its writer needs it."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._memory: mmap.mmap | None = None
        self._size_bytes = 0

    @classmethod
    def create(cls) -> "Arena":
        folder = _MEMORY_FOLDER if os.access(_MEMORY_FOLDER, os.W_OK) else Path(tempfile.gettempdir())
        with contextlib.suppress(OSError, AttributeError):
            # Never has a name (Linux), so there is not even a moment at which a kill would leave one.
            return cls(os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600))
        descriptor, path = tempfile.mkstemp(prefix="penstock-", dir=folder)
        Path(path).unlink()
        return cls(descriptor)

    def write(self, tensors: Tensors) -> tuple[TensorLayout, ...]:
        """Puts the tensors at the arena's start, over what was there. Returns where each stands."""
        pieces = [(name, *_encode(array)) for name, array in tensors.items()]
        layouts = []
        end = 0
        for name, kind, shape, buffers in pieces:
            size = sum(buffer.nbytes for buffer in buffers)
            layouts.append(TensorLayout(name, kind, shape, end, size))
            end += -(-size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
        memory = self._writable(end)
        for layout, (_, _, _, buffers) in zip(layouts, pieces, strict=True):
            start = layout.offset
            for buffer in buffers:
                memory[start : start + buffer.nbytes] = buffer
                start += buffer.nbytes
        return tuple(layouts)

    def read(self, layouts: Sequence[TensorLayout]) -> Tensors:
        """The tensors that stand there, copied out: the memory may be written again at once."""
        memory = self._readable(max((layout.offset + layout.size_bytes for layout in layouts), default=0))
        return {layout.name: _decode(layout, memory) for layout in layouts}

    def close(self) -> None:
        if self._memory is not None:
            self._memory.close()
            self._memory = None
        os.close(self.descriptor)

    def _writable(self, size_bytes: int) -> mmap.mmap:
        if self._memory is None or size_bytes > self._size_bytes:
            wanted = max(ARENA_BYTES_MIN, 2 * self._size_bytes, size_bytes)
            os.ftruncate(self.descriptor, wanted)
            self._map(wanted)
        assert self._memory is not None
        return self._memory

    def _readable(self, size_bytes: int) -> mmap.mmap:
        if self._memory is None or size_bytes > self._size_bytes:
            self._map(os.fstat(self.descriptor).st_size)
        assert self._memory is not None
        assert size_bytes <= self._size_bytes, "a layout lies outside of the arena"
        return self._memory

    def _map(self, size_bytes: int) -> None:
        if self._memory is not None:
            self._memory.close()
        self._memory = mmap.mmap(self.descriptor, size_bytes)
        self._size_bytes = size_bytes


def _encode(array: Array) -> tuple[str, tuple[int, ...], list[memoryview]]:
    if array.dtype.kind != "O":
        flat = np.ascontiguousarray(array).reshape(-1)
        return array.dtype.str, array.shape, [flat.view(np.uint8).data]
    elements: list[str | bytes] = array.ravel().tolist()
    text = bool(elements) and isinstance(elements[0], str)
    encoded = [element.encode() if isinstance(element, str) else element for element in elements]
    offsets = np.zeros(len(encoded) + 1, dtype=np.int64)
    np.cumsum([len(element) for element in encoded], out=offsets[1:])
    return (
        "str" if text else "bytes",
        array.shape,
        [offsets.view(np.uint8).data, memoryview(b"".join(encoded))],
    )


def _decode(layout: TensorLayout, memory: mmap.mmap) -> Array:
    raw = memory[layout.offset : layout.offset + layout.size_bytes]
    if layout.kind not in ("str", "bytes"):
        return np.frombuffer(raw, dtype=layout.kind).reshape(layout.shape)
    count = int(np.prod(layout.shape, dtype=np.int64))
    offsets = np.frombuffer(raw, dtype=np.int64, count=count + 1).tolist()
    blob = raw[8 * (count + 1) :]
    elements = np.empty(count, dtype=object)
    pieces = [blob[offsets[i] : offsets[i + 1]] for i in range(count)]
    elements[:] = [piece.decode() for piece in pieces] if layout.kind == "str" else pieces
    return cast("Array", elements.reshape(layout.shape))
