"""Messages of streams that Polars writes, and streams that nobody should write."""

import io
import itertools
import struct

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.arrow.arrow_messages import END_OF_STREAM, ArrowMessages, MessageKind
from penstock.core.errors import InvalidInput, TooLarge

LIMIT = 1 << 20


def stream(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_ipc_stream(buffer)
    return buffer.getvalue()


FRAME = pl.DataFrame({"a": [1.5, None], "b": ["x", "yy"], "c": pl.Series(["p", "q"], dtype=pl.Categorical)})
WHOLE = stream(FRAME)


@given(st.lists(st.integers(0, len(WHOLE)), max_size=8))
def test_messages_do_not_depend_on_the_cuts(places: list[int]) -> None:
    bounds = [0, *sorted(places), len(WHOLE)]
    messages = ArrowMessages(message_bytes_max=LIMIT)
    found = [
        message for start, stop in itertools.pairwise(bounds) for message in messages.feed(WHOLE[start:stop])
    ]
    messages.finish()
    assert messages.ended
    assert [message.kind for message in found] == [
        MessageKind.SCHEMA,
        MessageKind.DICTIONARY,
        MessageKind.RECORDS,
    ]
    assert b"".join(message.content for message in found) + END_OF_STREAM == WHOLE


def test_a_stream_may_end_without_saying_so() -> None:
    messages = ArrowMessages(message_bytes_max=LIMIT)
    assert len(messages.feed(WHOLE.removesuffix(END_OF_STREAM))) == 3
    messages.finish()


@pytest.mark.parametrize("length", [1, 9, 300, len(WHOLE) - 100])
def test_half_a_message_is_an_error(length: int) -> None:
    messages = ArrowMessages(message_bytes_max=LIMIT)
    messages.feed(WHOLE[:length])
    with pytest.raises(InvalidInput, match="ends within a message"):
        messages.finish()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"PAR1\0\0\0\0", "continuation marker"),
        (struct.pack("<Ii", 0xFFFFFFFF, -8), "-8 bytes of metadata"),
        (struct.pack("<Ii", 0xFFFFFFFF, 1 << 30), "bytes of metadata"),
        (struct.pack("<Ii", 0xFFFFFFFF, 16) + b"\xff" * 16, "points outside"),
        (struct.pack("<Ii", 0xFFFFFFFF, 16) + b"\0" * 16, "kind 0"),
        (WHOLE + b"x", "bytes after its end"),
    ],
)
def test_what_is_no_stream_is_refused(content: bytes, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        ArrowMessages(message_bytes_max=LIMIT).feed(content)


def test_a_large_message_is_refused_by_its_head() -> None:
    large = stream(pl.DataFrame({"a": [0.0] * 10_000}))
    messages = ArrowMessages(message_bytes_max=50_000)
    with pytest.raises(TooLarge, match="the limit is 50000"):
        messages.feed(large[:2000])


@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
def test_a_flipped_byte_never_breaks_it(place: int, flip: int) -> None:
    broken = bytearray(WHOLE)
    broken[place] ^= flip
    messages = ArrowMessages(message_bytes_max=LIMIT)
    try:
        found = messages.feed(bytes(broken))
        messages.finish()
    except InvalidInput:
        return
    assert sum(len(message.content) for message in found) <= len(WHOLE)
