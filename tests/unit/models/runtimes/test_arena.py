"""Round trips through shared memory, written through one mapping and read through another."""

import math
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from penstock.core.errors import Refused
from penstock.core.tensors import Tensors
from penstock.models.runtimes.arena import ALIGNMENT_BYTES, ARENA_BYTES_MIN, SMALL_WRITES_MAX, Arena

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


@contextmanager
def files_of_at_most(size_bytes: int) -> Iterator[None]:
    """In this process; growing one further fails as on a full disk (with EFBIG)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_memory_that_cannot_be_had_is_refused_and_the_arena_stays_usable() -> None:
    with pair() as (writer, reader):
        small: Tensors = {"x": np.arange(5)}
        for first in (True, False):
            with files_of_at_most(ARENA_BYTES_MIN):
                if not first:
                    check(reader.read(writer.write(small)), small)
                with pytest.raises(Refused, match="no shared memory for") as raised:
                    writer.write({"x": np.zeros(ARENA_BYTES_MIN)})
                assert raised.value.reason == "shared_memory"
            check(reader.read(writer.write(small)), small)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="nothing reserves memory here")
def test_memory_is_reserved_before_it_is_touched() -> None:
    with pair() as (writer, _):
        writer.write({"x": np.zeros(3)})
        status = os.fstat(writer.descriptor)
        assert status.st_blocks * 512 >= status.st_size == ARENA_BYTES_MIN


def test_it_shrinks_when_little_is_needed_for_long() -> None:
    big: Tensors = {"x": np.arange(2 * ARENA_BYTES_MIN)}
    small: Tensors = {"x": np.arange(3)}
    with pair() as (writer, reader):
        for _ in range(2):
            check(reader.read(writer.write(big)), big)
            size_bytes = os.fstat(writer.descriptor).st_size
            assert size_bytes >= 16 * ARENA_BYTES_MIN
            for _ in range(SMALL_WRITES_MAX - 1):
                check(reader.read(writer.write(small)), small)
            assert os.fstat(writer.descriptor).st_size == size_bytes
            check(reader.read(writer.write(small)), small)
            assert os.fstat(writer.descriptor).st_size == ARENA_BYTES_MIN
            check(reader.read(writer.write(small)), small)


def test_it_does_not_shrink_while_it_is_needed_now_and_then() -> None:
    big: Tensors = {"x": np.arange(ARENA_BYTES_MIN)}
    with pair() as (writer, reader):
        writer.write(big)
        size_bytes = os.fstat(writer.descriptor).st_size
        for turn in range(3 * SMALL_WRITES_MAX):
            message = big if turn % (SMALL_WRITES_MAX // 2) == 0 else {"x": np.arange(3)}
            check(reader.read(writer.write(message)), message)
            assert os.fstat(writer.descriptor).st_size == size_bytes


def test_a_new_writer_of_a_big_arena_and_its_old_reader() -> None:
    """As after a restart of the worker."""
    big: Tensors = {"x": np.arange(ARENA_BYTES_MIN)}
    with pair() as (writer, reader):
        check(reader.read(writer.write(big)), big)
        successor = Arena(os.dup(writer.descriptor))
        for message in ({"x": np.arange(4)}, big, {"x": np.arange(5)}):
            check(reader.read(successor.write(message)), message)
        successor.close()
