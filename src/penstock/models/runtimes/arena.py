"""Tensors in memory that two processes share.

An arena is the memory of a file without a name, so nothing of it is left behind however its owners end.
One process writes, the other reads what a message tells it is there; they take turns, so there is nothing
to lock. Memory is reserved before it is touched: a page that cannot be had would be a SIGBUS.
"""

import contextlib
import mmap
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import msgspec
import numpy as np

from penstock.core.errors import Refused
from penstock.core.tensors import Array, Tensors

__all__ = ["Arena", "TensorLayout"]

ALIGNMENT_BYTES = 64
ARENA_BYTES_MIN = 1 << 20
SMALL_WRITES_MAX = 64
"""After so many writes in a row that each need less than a quarter of it, an arena shrinks."""
REFUSED_REASON = "shared_memory"
# Where there is no memfd: a folder in memory; elsewhere the page cache does nearly as well.
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
    """Shared memory that grows as its writer needs it, and shrinks when that was for a moment only."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._memory: mmap.mmap | None = None
        self._size_bytes = 0
        self._small_writes = 0
        self._small_bytes_max = 0

    @classmethod
    def create(cls) -> "Arena":
        with contextlib.suppress(OSError, AttributeError):
            # Not bounded by the size of /dev/shm, which is 64 MiB in most containers.
            return cls(os.memfd_create("penstock", os.MFD_CLOEXEC))
        folder = _MEMORY_FOLDER if os.access(_MEMORY_FOLDER, os.W_OK) else Path(tempfile.gettempdir())
        with contextlib.suppress(OSError, AttributeError):
            # Never has a name (Linux), so there is not even a moment at which a kill would leave one.
            return cls(os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600))
        descriptor, path = tempfile.mkstemp(prefix="penstock-", dir=folder)
        Path(path).unlink()
        return cls(descriptor)

    def write(self, tensors: Tensors) -> tuple[TensorLayout, ...]:
        """Puts the tensors at the arena's start, over what was there. Returns where each stands.

        Raises `Refused` where the memory for them cannot be had.
        """
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
        wanted = self._fitting(size_bytes)
        if self._memory is None or wanted != self._size_bytes:
            self._resize(wanted)
        assert self._memory is not None
        return self._memory

    def _fitting(self, size_bytes: int) -> int:
        """The size that the arena should have for a write of so many bytes."""
        if self._memory is None or size_bytes > self._size_bytes:
            self._small_writes = self._small_bytes_max = 0
            return max(ARENA_BYTES_MIN, 2 * self._size_bytes, size_bytes)
        if self._size_bytes == ARENA_BYTES_MIN or 4 * size_bytes >= self._size_bytes:
            self._small_writes = self._small_bytes_max = 0
            return self._size_bytes
        self._small_writes += 1
        self._small_bytes_max = max(self._small_bytes_max, size_bytes)
        if self._small_writes < SMALL_WRITES_MAX:
            return self._size_bytes
        fitting = max(ARENA_BYTES_MIN, self._small_bytes_max)
        self._small_writes = self._small_bytes_max = 0
        return fitting

    def _resize(self, size_bytes: int) -> None:
        reserve: Callable[[int, int, int], None] | None = getattr(os, "posix_fallocate", None)
        try:
            if reserve is None or size_bytes < os.fstat(self.descriptor).st_size:
                os.ftruncate(self.descriptor, size_bytes)
            if reserve is not None:
                reserve(self.descriptor, 0, size_bytes)
        except OSError as error:
            raise Refused(
                f"no shared memory for {size_bytes} bytes of tensors: {error.strerror}",
                reason=REFUSED_REASON,
                hint="send fewer rows at a time, or give the server more memory (or a larger /dev/shm)",
            ) from error
        self._map(size_bytes)

    def _readable(self, size_bytes: int) -> mmap.mmap:
        # The writer may have changed the size since: what the map has beyond the file must not be touched.
        now_bytes = os.fstat(self.descriptor).st_size
        assert size_bytes <= now_bytes, "a layout lies outside of the arena"
        if self._memory is None or now_bytes != self._size_bytes:
            self._map(now_bytes)
        assert self._memory is not None
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
