"""Records as bytes and back: columns of lengths and times, then the payloads end to end, compressed.

A body is `_HEAD`, then the sections that it gives the lengths of: the lengths of the values, the times, the
lengths of the keys (-1: no key), the values, the keys, the headers as msgpack. Integers are kept as what they
are above the least of them, in 0, 1, 2, 4 or 8 bytes each. What follows the head is one zstd frame where that
is smaller. The checksum over all of it is `frames`' business, so what comes here is what was written.
"""

import io
import struct
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from penstock.log.packed_values import PackedValues, Run
from penstock.log.records import Records

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ["EncodedFrame", "decode_records", "encode_records"]

Integers = npt.NDArray[np.int64]

FORMAT = 1
ZSTD_LEVEL = -1
"""JSON events of 300 bytes compress 5:1 at 0.2 µs an event; level 1 takes twice that for a tenth less."""
COMPRESSED_BYTES_MIN = 512
_HEAD = struct.Struct("<BBxxIqqqBBBxII")
_COMPRESSED, _KEYS, _HEADERS = 1, 2, 4
_WIDTHS = {0: None, 1: np.dtype("<u1"), 2: np.dtype("<u2"), 4: np.dtype("<u4"), 8: np.dtype("<u8")}
_headers_encoder = msgspec.msgpack.Encoder()
_headers_decoder = msgspec.msgpack.Decoder(list[dict[str, bytes] | None])
_own = threading.local()


@dataclass(frozen=True, slots=True)
class EncodedFrame:
    """Records as they are kept, and what is kept beside them."""

    count: int
    time_min_ms: int
    time_max_ms: int
    body: bytes


def encode_records(records: Records) -> EncodedFrame:
    """One frame of at least one record."""
    count = len(records)
    assert count > 0, "a frame has records"
    lengths = _lengths(records.values, count)
    times = np.asarray(records.times_ms, dtype=np.int64)
    length_least, length_width, length_bytes = _pack(lengths)
    time_least, time_width, time_bytes = _pack(times)
    key_least = key_width = flags = 0
    key_lengths = headers = b""
    keys: list[bytes] = []
    if records.keys is not None:
        flags |= _KEYS
        key_least, key_width, key_lengths = _pack(_key_lengths(records.keys, count))
        keys = [key for key in records.keys if key]
    if records.headers is not None:
        flags |= _HEADERS
        headers = _headers_encoder.encode(records.headers)
    values = records.values
    packed = [run.whole() for run in values.runs] if isinstance(values, PackedValues) else values
    payload = b"".join((length_bytes, time_bytes, key_lengths, *packed, *keys, headers))
    if len(payload) >= COMPRESSED_BYTES_MIN:
        compressed = _compress(payload)
        if len(compressed) < len(payload):
            payload, flags = compressed, flags | _COMPRESSED
    head = _HEAD.pack(
        *(FORMAT, flags, count, length_least, time_least, key_least, length_width, time_width, key_width),
        *(len(length_bytes), len(time_bytes)),
    )
    return EncodedFrame(count, time_least, int(times.max()), head + payload)


def decode_records(body: bytes) -> Records:
    """What `encode_records` was given. Raises `ValueError` for a format that is not known here."""
    head = _HEAD.unpack_from(body)
    form, flags, count, length_least, time_least, key_least, length_width, time_width, key_width = head[:9]
    length_size, time_size = head[9:]
    if form != FORMAT:
        raise ValueError(f"its format is {form}, and this version of Penstock reads {FORMAT}")
    payload = body[_HEAD.size :]
    if flags & _COMPRESSED:
        payload = zstd.decompress(payload)
    lengths = _unpack(payload, 0, count, length_least, length_width)
    times = _unpack(payload, length_size, count, time_least, time_width)
    bounds = np.empty(count + 1, dtype=np.int64)
    bounds[0] = length_size + time_size + (count * key_width if flags & _KEYS else 0)
    np.cumsum(lengths, out=bounds[1:])
    bounds[1:] += bounds[0]
    values = PackedValues([Run(payload, bounds)])
    if not flags & (_KEYS | _HEADERS):
        return Records(values=values, times_ms=times)
    stream = io.BytesIO(payload)
    stream.seek(int(bounds[-1]))
    keys: list[bytes | None] | None = None
    if flags & _KEYS:
        key_lengths = _unpack(payload, length_size + time_size, count, key_least, key_width)
        keys = _split_keys(stream, key_lengths)
    headers = _headers_decoder.decode(stream.read()) if flags & _HEADERS else None
    return Records(values=values, times_ms=times, keys=keys, headers=headers)


def _lengths(values: Sequence[bytes], count: int) -> Integers:
    if isinstance(values, PackedValues):
        return values.lengths()
    return np.fromiter(map(len, values), dtype=np.int64, count=count)


def _key_lengths(keys: Sequence[bytes | None], count: int) -> Integers:
    if None in keys:
        return np.fromiter((-1 if key is None else len(key) for key in keys), dtype=np.int64, count=count)
    return np.fromiter(map(len, keys), dtype=np.int64, count=count)  # type: ignore[arg-type] # none is None


def _pack(integers: Integers) -> tuple[int, int, bytes]:
    """The least of them, how many bytes each takes above it, and those."""
    least, most = int(integers.min()), int(integers.max())
    spread = most - least
    width = 0 if spread == 0 else next(width for width in (1, 2, 4, 8) if spread < 1 << (8 * width))
    kind = _WIDTHS[width]
    if kind is None:
        return least, 0, b""
    # The difference may pass what int64 holds; as uint64 it wraps to what it is.
    above = integers.view(np.uint64) - np.uint64(least & 0xFFFF_FFFF_FFFF_FFFF)
    return least, width, above.astype(kind).tobytes()


def _unpack(payload: bytes, start: int, count: int, least: int, width: int) -> Integers:
    kind = _WIDTHS[width]
    if kind is None:
        return np.full(count, least, dtype=np.int64)
    above = np.frombuffer(payload, dtype=kind, count=count, offset=start).astype(np.uint64)
    return (above + np.uint64(least & 0xFFFF_FFFF_FFFF_FFFF)).view(np.int64)


def _split_keys(stream: io.BytesIO, lengths: Integers) -> list[bytes | None]:
    if lengths.min() >= 0:
        return list(map(stream.read, lengths.tolist()))
    return [None if length < 0 else stream.read(length) for length in lengths.tolist()]


def _compress(payload: bytes) -> bytes:
    compressor = getattr(_own, "compressor", None)
    if compressor is None:
        compressor = _own.compressor = zstd.ZstdCompressor(level=ZSTD_LEVEL)
    compressor.set_pledged_input_size(len(payload))
    return bytes(compressor.compress(payload, mode=zstd.ZstdCompressor.FLUSH_FRAME))
