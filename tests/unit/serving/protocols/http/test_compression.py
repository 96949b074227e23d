"""Compressed bodies against the libraries that make them, and what must not come through."""

import asyncio
import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_connection import Rig

from penstock.core.errors import InvalidInput, TooLarge
from penstock.serving.protocols.http import compression
from penstock.serving.protocols.http.compression import (
    PIECE_BYTES_MAX,
    DecodedStream,
    UnknownEncoding,
    answer_encoding,
    body_reader,
    compress,
    decoded,
    decoding,
    encodings_of,
    sliced,
)

LIMIT = 16 * 1024 * 1024


def bare_deflate(content):
    compressor = zlib.compressobj(6, zlib.DEFLATED, -15)
    return compressor.compress(content) + compressor.flush()


def zstd(content):
    return compression.zstd.compress(content)


FORMATS = {
    "gzip": ("gzip", gzip.compress),
    "deflate": ("deflate", zlib.compress),
    "bare deflate": ("deflate", bare_deflate),
    "zstd": ("zstd", zstd),
}
formats = pytest.mark.parametrize("name", FORMATS)
BODY = b'{"inputs": [1.5, 2.25]},' * 20_000


class Pieces:
    """A stream that gives these pieces."""

    def __init__(self, *pieces):
        self.pieces = list(pieces)

    async def read(self):
        return self.pieces.pop(0) if self.pieces else b""


def read_all(stream):
    async def reading():
        pieces = []
        while piece := await stream.read():
            pieces.append(piece)
        return pieces

    return asyncio.run(reading())


@formats
@given(st.binary(max_size=2000), st.integers(1, 2000))
def test_what_was_compressed_comes_back_however_it_is_cut(name, content, cut):
    encoding, pack = FORMATS[name]
    packed = pack(content)
    assert decoded(packed, [encoding], LIMIT) == content
    pieces = [packed[start : start + cut] for start in range(0, len(packed), cut)]
    assert b"".join(decoding(pieces, [encoding], LIMIT)) == content
    if len(content) < 200:
        assert b"".join(read_all(DecodedStream(Pieces(*pieces), [encoding]))) == content


@formats
def test_large_bodies_come_in_small_pieces(name):
    encoding, pack = FORMATS[name]
    pieces = list(decoding(sliced(pack(BODY)), [encoding], LIMIT))
    assert b"".join(pieces) == BODY
    assert max(map(len, pieces)) <= PIECE_BYTES_MAX


@formats
@pytest.mark.parametrize("cut", [0, 1, 2, 9, -1, -4])
def test_a_body_that_ends_early(name, cut):
    encoding, pack = FORMATS[name]
    with pytest.raises(InvalidInput, match="ends early"):
        decoded(pack(BODY)[:cut], [encoding], LIMIT)


SURPLUS = {
    "a byte": b"x",
    "nothing": b"\0",
    "a member": gzip.compress(b"more", mtime=0),
    "many": b"x" * 200_000,
}


@formats
@pytest.mark.parametrize("surplus", SURPLUS.values(), ids=SURPLUS)
def test_a_body_that_goes_on_after_its_end(name, surplus):
    encoding, pack = FORMATS[name]
    for content in (b"", b"small", BODY):
        with pytest.raises(InvalidInput, match="goes on after the end"):
            decoded(pack(content) + surplus, [encoding], LIMIT)


@pytest.mark.parametrize("name", ["gzip", "deflate"])  # the others have no checksum
def test_a_corrupt_body(name):
    encoding, pack = FORMATS[name]
    packed = bytearray(pack(BODY))
    packed[len(packed) // 2] ^= 0xFF
    with pytest.raises(InvalidInput, match=f"not {encoding}"):
        decoded(bytes(packed), [encoding], LIMIT)


@formats
def test_a_body_that_is_something_else(name):
    with pytest.raises(InvalidInput):
        decoded(b"\xff" + BODY, [FORMATS[name][0]], LIMIT)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
@given(st.binary(max_size=100), st.integers(0, 60))
def test_any_bytes(encoding, content, length):
    for body in (content, FORMATS[encoding][1](b"hello" * 9)[:length] + content):
        try:
            decoded(body, [encoding], 10_000)
        except InvalidInput as error:
            assert error.where == "body"  # noqa: PT017 - either outcome is right


@formats
def test_a_bomb_is_never_held(name):
    encoding, pack = FORMATS[name]
    bomb = pack(b"\0" * (20 * LIMIT))
    assert len(bomb) < 20 * LIMIT / 900
    tracemalloc.start()
    with pytest.raises(TooLarge, match="passes the limit"):
        decoded(bomb, [encoding], LIMIT)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < LIMIT * 1.2


def test_a_bomb_in_a_bomb_is_bounded_at_each_layer():
    bomb = gzip.compress(gzip.compress(b"\0" * (20 * LIMIT)))
    with pytest.raises(TooLarge):
        decoded(bomb, ["gzip", "gzip"], LIMIT)
    # The inner layer decodes to nothing, however much of it there is.
    empty_blocks = b"\0\0\0\xff\xff" * (LIMIT // 4)
    with pytest.raises(TooLarge):
        decoded(gzip.compress(empty_blocks), ["deflate", "gzip"], LIMIT)


def test_the_limit_is_exact():
    assert len(decoded(gzip.compress(b"x" * 1000), ["gzip"], 1000)) == 1000
    with pytest.raises(TooLarge):
        decoded(gzip.compress(b"x" * 1001), ["gzip"], 1000)


def test_a_frame_may_not_ask_for_any_window():
    option = compression.zstd.CompressionParameter.window_log
    packed = compression.zstd.ZstdCompressor(options={option: 27})
    content = packed.compress(b"x" * 10_000_000) + packed.flush()
    with pytest.raises(InvalidInput, match="not zstd"):
        decoded(content, ["zstd"], LIMIT)


def test_encodings_in_a_row():
    assert encodings_of(b"gzip") == encodings_of(b" X-GZIP ,identity") == ("gzip",)
    assert encodings_of(b"identity") == encodings_of(b"") == ()
    assert encodings_of(b"gzip, zstd") == ("gzip", "zstd")
    assert decoded(zstd(gzip.compress(BODY)), ["gzip", "zstd"], LIMIT) == BODY
    for unknown in (b"br", b"gzip, br", b"gzip, gzip, gzip", b"gzip;q=1", b"\xff"):
        with pytest.raises(UnknownEncoding):
            encodings_of(unknown)


def test_a_decoded_stream_that_ends_early():
    with pytest.raises(InvalidInput, match="ends early"):
        read_all(DecodedStream(Pieces(gzip.compress(BODY)[:-1]), ["gzip"]))


def test_a_streamed_request_is_read_as_it_was_before():
    rig = Rig()
    packed = gzip.compress(BODY)
    head = b"POST /stream HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n" % len(packed)
    rig.feed(head + b"content-encoding: gzip\r\n\r\n" + packed)
    assert b"".join(read_all(body_reader(rig.requests[0]))) == BODY
    plain = Rig()
    plain.feed(b"POST /stream HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}")
    assert body_reader(plain.requests[0]) is plain.requests[0].body_stream
    unknown = Rig()
    unknown.feed(b"POST /stream HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\ncontent-encoding: br\r\n\r\n")
    with pytest.raises(UnknownEncoding):
        body_reader(unknown.requests[0])


@pytest.mark.parametrize(
    ("header", "encoding"),
    [
        (b"gzip", "gzip"),
        (b"deflate", "deflate"),
        (b"x-gzip", "gzip"),
        (b"gzip, deflate, br, zstd", "gzip"),
        (b"zstd, gzip;q=0.9", "zstd"),
        (b"gzip, deflate, br", "gzip"),
        (b"gzip;q=0.5, deflate;q=0.8", "deflate"),
        (b"zstd;q=0, *", "gzip"),
        (b"GZIP ; Q=1", "gzip"),
        (b"br", None),
        (b"identity, gzip;q=0.5", None),
        (b"gzip;q=0", None),
        (b"gzip;q=x", None),
        (b"gzip;q=nan", None),
        (b"", None),
        (b"\xff,;;=", None),
    ],
)
def test_what_answers_come_in(header, encoding):
    assert answer_encoding(header) == encoding


@given(st.binary(max_size=60))
def test_any_accept_encoding(header):
    assert answer_encoding(header) in (None, "gzip", "deflate", "zstd")


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
def test_answers_are_read_by_the_libraries(encoding):
    read = {"gzip": gzip.decompress, "deflate": zlib.decompress, "zstd": compression.zstd.decompress}[encoding]
    packed = compress(BODY, encoding)
    assert read(packed) == BODY
    assert len(packed) < len(BODY) / 10
