"""Round trips through shared memory, written through one mapping and read through another."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from penstock.core.tensors import Tensors
from penstock.models.runtimes.arena import ALIGNMENT_BYTES, ARENA_BYTES_MIN, Arena

shapes = hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4)
numeric = hnp.arrays(
    st.sampled_from(["?", "<u1", "<u2", "<u4", "<u8", "<i1", "<i2", "<i4", "<i8", "<f2", "<f4", "<f8"]), shapes
)


@st.composite
def objects(draw: st.DrawFn) -> np.ndarray:
    elements = draw(st.sampled_from([st.text(st.characters(exclude_categories=["Cs"])), st.binary()]))
    shape = draw(shapes)
    count = math.prod(shape)
    array = np.empty(count, dtype=object)
    array[:] = draw(st.lists(elements, min_size=count, max_size=count))
    return array.reshape(shape)


tensors = st.dictionaries(st.text(max_size=3), numeric | objects(), min_size=1, max_size=5)


@contextmanager
def pair() -> Iterator[tuple[Arena, Arena]]:
    """A writer and, as in another process, a reader of the same memory."""
    writer = Arena.create()
    reader = Arena(os.dup(writer.descriptor))
    try:
        yield writer, reader
    finally:
        writer.close()
        reader.close()


def check(found: Tensors, wanted: Tensors) -> None:
    assert list(found) == list(wanted)
    for name, array in wanted.items():
        assert found[name].shape == array.shape
        assert found[name].dtype == array.dtype
        if array.dtype == object:
            assert found[name].ravel().tolist() == array.ravel().tolist()
        else:
            assert found[name].tobytes() == array.tobytes()


@given(st.lists(tensors, min_size=1, max_size=4))
def test_round_trips(messages: list[Tensors]) -> None:
    with pair() as (writer, reader):
        for message in messages:
            layouts = writer.write(message)
            check(reader.read(layouts), message)
            end = 0
            for layout in layouts:
                assert layout.offset >= end
                assert layout.offset % ALIGNMENT_BYTES == 0
                end = layout.offset + layout.size_bytes


def test_arrays_that_are_not_contiguous() -> None:
    array = np.arange(24, dtype="<i4").reshape(2, 3, 4)
    strided = {"t": array.T, "s": array[:, ::2, 1:3], "r": array[::-1]}
    with pair() as (writer, reader):
        check(reader.read(writer.write(strided)), strided)


def test_it_grows_and_both_sides_follow() -> None:
    with pair() as (writer, reader):
        for size_bytes in (10, ARENA_BYTES_MIN, ARENA_BYTES_MIN + 1, 5, 3 * ARENA_BYTES_MIN, 1):
            message = {"x": np.arange(size_bytes, dtype="<u8").astype("<u1"), "y": np.ones(3)}
            check(reader.read(writer.write(message)), message)
        assert os.fstat(writer.descriptor).st_size <= 8 * ARENA_BYTES_MIN


def test_what_was_read_stays_when_the_memory_is_written_again() -> None:
    with pair() as (writer, reader):
        first = reader.read(writer.write({"x": np.arange(5)}))
        writer.write({"x": np.zeros(5)})
        assert first["x"].tolist() == [0, 1, 2, 3, 4]


def test_it_has_no_name_and_closes_its_descriptor() -> None:
    before = set(Path("/proc/self/fd").iterdir()) if Path("/proc/self/fd").is_dir() else None
    arena = Arena.create()
    arena.write({"x": np.zeros(3)})
    assert os.fstat(arena.descriptor).st_nlink == 0
    arena.close()
    if before is not None:
        assert set(Path("/proc/self/fd").iterdir()) == before
