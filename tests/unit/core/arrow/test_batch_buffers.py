"""Buffers of batches that Polars writes, and of batches that lie."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest

from penstock.core.arrow.arrow_messages import ArrowMessages
from penstock.core.arrow.batch_buffers import TEXTS, VIEW, BatchBuffers
from penstock.core.errors import InvalidInput

BODY = memoryview(bytes(range(64)))


class LyingBatch:
    """What `RecordBatch` tells of itself: nodes, buffers and how many buffers each column of views has."""

    def __init__(
        self,
        *,
        nodes: Sequence[tuple[int, int]] = (),
        buffers: Sequence[tuple[int, int]] = (),
        variadic: Sequence[int] = (),
        compressed: bool = False,
    ) -> None:
        self._vectors = {1: nodes, 2: buffers, 4: [(count,) for count in variadic]}
        self._compressed = compressed

    def has(self, field: int) -> bool:
        return field == 3 and self._compressed

    def structs(self, field: int, _layout: str) -> Sequence[tuple[int, ...]]:
        return self._vectors[field]


def lying(**vectors: Any) -> BatchBuffers:
    batch: Any = LyingBatch(**vectors)
    return BatchBuffers(batch, BODY)


def test_what_polars_writes() -> None:
    frame = pl.DataFrame({"n": [1, None, 3], "s": ["a", "", "text"], "on": [True, False, True]})
    content = io.BytesIO()
    frame.write_ipc_stream(content, compat_level=pl.CompatLevel.oldest())
    message = ArrowMessages(message_bytes_max=1 << 20).feed(content.getvalue())[1]
    buffers = BatchBuffers(message.header, message.body)
    assert buffers.node() == (3, 1)
    assert buffers.bits(3).tolist() == [True, False, True]
    assert buffers.array(np.dtype("<i8"), 3)[[0, 2]].tolist() == [1, 3]
    assert buffers.node() == (3, 0)
    buffers.buffer()
    offsets = buffers.offsets(TEXTS["LargeUtf8"], 3)
    assert offsets.tolist() == [0, 1, 1, 5]
    assert bytes(buffers.sized(5)) == b"atext"
    assert buffers.node() == (3, 0)
    buffers.buffer()
    assert buffers.bits(3).tolist() == [True, False, True]
    buffers.finish()


def test_views_and_what_they_point_into() -> None:
    frame = pl.DataFrame({"s": ["short", "a text of more than twelve bytes"]})
    content = io.BytesIO()
    frame.write_ipc_stream(content, compat_level=pl.CompatLevel.newest())
    message = ArrowMessages(message_bytes_max=1 << 20).feed(content.getvalue())[1]
    buffers = BatchBuffers(message.header, message.body)
    buffers.node()
    buffers.buffer()
    views = buffers.array(VIEW, 2)
    (text,) = buffers.view_buffers()
    assert views["size"].tolist() == [5, 32]
    at = int(views["offset"][1])
    assert bytes(text[at : at + 32]) == b"a text of more than twelve bytes"
    buffers.finish()


def test_offsets_of_no_values_may_be_no_bytes() -> None:
    assert lying(buffers=[(0, 0)]).offsets("<i4", 0).tolist() == [0]


@pytest.mark.parametrize("place", [(-1, 8), (0, -1), (0, 65), (64, 1), (1 << 62, 1 << 62)])
def test_buffers_beyond_the_body(place: tuple[int, int]) -> None:
    with pytest.raises(InvalidInput, match="not within its message"):
        lying(buffers=[place]).buffer()


def test_buffers_that_are_more_together_than_the_body() -> None:
    buffers = lying(buffers=[(0, 40), (40, 24), (0, 1)])
    assert bytes(buffers.buffer()) == bytes(range(40))
    assert bytes(buffers.buffer()) == bytes(range(40, 64))
    with pytest.raises(InvalidInput, match="overlap"):
        buffers.buffer()


def test_buffers_that_are_too_short() -> None:
    assert len(lying(buffers=[(0, 16)]).sized(16)) == 16
    for read in (
        lambda buffers: buffers.sized(17),
        lambda buffers: buffers.array(np.dtype("<i8"), 3),
        lambda buffers: buffers.bits(129),
        lambda buffers: buffers.offsets("<i4", 4),
    ):
        with pytest.raises(InvalidInput, match="a buffer of 16 bytes is to hold"):
            read(lying(buffers=[(0, 16)]))


@pytest.mark.parametrize("offsets", [[-1, 2], [0, 3, 2]])
def test_offsets_that_go_back(offsets: list[int]) -> None:
    batch: Any = LyingBatch(buffers=[(0, 4 * len(offsets))])
    buffers = BatchBuffers(batch, memoryview(np.array(offsets, "<i4").tobytes()))
    with pytest.raises(InvalidInput, match="offsets point outside"):
        buffers.offsets("<i4", len(offsets) - 1)


def test_fewer_and_more_than_the_schema_says() -> None:
    with pytest.raises(InvalidInput, match="fewer buffers"):
        lying().node()
    with pytest.raises(InvalidInput, match="fewer buffers"):
        lying().buffer()
    for more in (lying(nodes=[(0, 0)]), lying(buffers=[(0, 0)])):
        with pytest.raises(InvalidInput, match="more buffers"):
            more.finish()


def test_as_many_buffers_of_views_as_are_said() -> None:
    assert lying().view_buffers() == []
    assert [len(each) for each in lying(buffers=[(0, 3), (8, 5)], variadic=[2]).view_buffers()] == [3, 5]
    for count in (-1, 65):
        with pytest.raises(InvalidInput, match=f"a column has {count} buffers"):
            lying(variadic=[count]).view_buffers()


def test_compressed_ones() -> None:
    with pytest.raises(InvalidInput, match="compressed"):
        lying(compressed=True)
