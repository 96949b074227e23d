"""Compressed bodies: what requests bring is undone within a bound, large answers are compressed.

Sources: RFC 9110 sections 8.4 and 12.5.3, RFC 1950 to 1952, RFC 8878.
"""

import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence

from penstock.core.errors import InvalidInput, TooLarge, Unsupported, shown
from penstock.serving.protocols.http.messages import BodyStream, HttpRequest

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = [
    "ACCEPTED",
    "DecodedStream",
    "UnknownEncoding",
    "answer_encoding",
    "body_reader",
    "compress",
    "decoded",
    "decoding",
    "encodings_of",
    "sliced",
]

ACCEPTED = "gzip, deflate, zstd"
"""What a client is told that it may send."""
ENCODINGS_MAX = 2
PIECE_BYTES_MAX = 64 * 1024
"""So much is decompressed at a time, whatever a body claims to hold."""
ZSTD_WINDOW_LOG_MAX = 23
"""8 MiB, which RFC 8878 asks decoders to support: what a frame may make its decoder hold."""
GZIP_LEVEL = ZSTD_LEVEL = 1
"""On JSON of floats gzip's level 6 takes several times as long as 1 and saves a few hundredths."""

_ALIASES = {"x-gzip": "gzip"}
_KNOWN = ("gzip", "deflate", "zstd")
"""Those that answers can come in; of what a client likes equally, the first. zstd is the cheapest, and last:
HTTP libraries offer it in the name of clients that cannot read it (Triton's with asyncio)."""
_GZIP_WBITS, _ZLIB_WBITS, _RAW_WBITS = 31, 15, -15
_DEFLATE = 8


class UnknownEncoding(Unsupported):
    """The body came in a content encoding that is not understood here."""

    def __init__(self, encoding: str) -> None:
        super().__init__(
            f"content-encoding {shown(encoding)} is not understood",
            where="content-encoding",
            hint=f"send {ACCEPTED}, or the body as it is",
        )


def encodings_of(header: bytes) -> tuple[str, ...]:
    """The encodings that a Content-Encoding header names, in the order in which they were applied.

    Raises `UnknownEncoding` for one that is not known, and for more than two.
    """
    text = header.decode("latin-1")
    found = []
    for part in text.lower().split(","):
        name = part.strip()
        name = _ALIASES.get(name, name)
        if name in _KNOWN:
            found.append(name)
        elif name not in ("identity", ""):
            raise UnknownEncoding(text)
    if len(found) > ENCODINGS_MAX:
        raise UnknownEncoding(text)
    return tuple(found)


def decoding(pieces: Iterable[bytes], encodings: Sequence[str], bytes_max: int) -> Iterator[bytes]:
    """The decoded body in pieces of at most 64 KiB, from its pieces as they came.

    Raises `TooLarge` once it passes `bytes_max`, be it half decoded only, and `InvalidInput` for what is
    corrupt, ends early or goes on after its end.
    """
    for encoding in reversed(encodings):
        pieces = _bounded(_decode_one(pieces, encoding), bytes_max)
    return iter(pieces)


def decoded(body: bytes, encodings: Sequence[str], bytes_max: int) -> bytes:
    """The decoded body. Raises as `decoding` does."""
    return b"".join(decoding(sliced(body), encodings, bytes_max))


def sliced(body: bytes) -> Iterator[bytes]:
    """The body in pieces: a decompressor copies what it has not come to yet, each time it is asked."""
    for start in range(0, len(body), PIECE_BYTES_MAX):
        yield body[start : start + PIECE_BYTES_MAX]


class DecodedStream:
    """A streamed body, decoded as it is read. It has no bound in all; a piece has one."""

    def __init__(self, stream: BodyStream, encodings: Sequence[str]) -> None:
        self._stream = stream
        self._decoders = [(_decoder(encoding), encoding) for encoding in reversed(encodings)]
        self._pieces: Iterator[bytes] = iter(())
        self._ended = False

    async def read(self) -> bytes:
        """The next piece, b"" at the end. Raises as `BodyStream.read` and `decoding` do."""
        while True:
            for piece in self._pieces:
                if piece:
                    return piece
            if self._ended:
                return b""
            part = await self._stream.read()
            self._ended = not part
            self._pieces = self._end() if self._ended else self._feed(part)

    def _feed(self, part: bytes) -> Iterator[bytes]:
        pieces: Iterator[bytes] = iter((part,))
        for decoder, encoding in self._decoders:
            pieces = _feed_all(decoder, encoding, pieces)
        return pieces

    def _end(self) -> Iterator[bytes]:
        for decoder, encoding in self._decoders:
            decoder.end(encoding)
        return iter(())


def body_reader(request: HttpRequest) -> "BodyStream | DecodedStream":
    """What reads a streamed body as it was before it was compressed. Raises `UnknownEncoding`."""
    stream = request.body_stream
    assert stream is not None, "the body was received whole"
    encodings = encodings_of(request.headers.get(b"content-encoding", b""))
    return DecodedStream(stream, encodings) if encodings else stream


class _Zlib:
    """gzip, zlib and raw deflate."""

    def __init__(self, wbits: int | None) -> None:
        self._decompressor = None if wbits is None else zlib.decompressobj(wbits)
        self._begun = b""

    def feed(self, data: bytes, encoding: str) -> Iterator[bytes]:
        if self._decompressor is None:
            # RFC 9110 means zlib's format by deflate, but many send deflate bare. zlib's header tells: in bare
            # deflate its first byte would begin a stored block in a way that no encoder does.
            data = self._begun + data
            if len(data) < 2:
                self._begun = data
                return
            headed = data[0] & 15 == _DEFLATE and int.from_bytes(data[:2]) % 31 == 0
            self._decompressor = zlib.decompressobj(_ZLIB_WBITS if headed else _RAW_WBITS)
        decompressor = self._decompressor
        while True:
            if decompressor.eof and data:
                raise _surplus(encoding)
            try:
                piece = decompressor.decompress(data, PIECE_BYTES_MAX)
            except zlib.error as error:
                raise _corrupt(encoding, error) from None
            data = decompressor.unconsumed_tail
            yield piece
            if decompressor.unused_data:
                raise _surplus(encoding)
            if decompressor.eof or (not data and len(piece) < PIECE_BYTES_MAX):
                return

    def end(self, encoding: str) -> None:
        if self._decompressor is None or not self._decompressor.eof:
            raise _cut(encoding)


class _Zstd:
    def __init__(self) -> None:
        self._decompressor = zstd.ZstdDecompressor(
            options={zstd.DecompressionParameter.window_log_max: ZSTD_WINDOW_LOG_MAX}
        )

    def feed(self, data: bytes, encoding: str) -> Iterator[bytes]:
        decompressor = self._decompressor
        ended = decompressor.eof
        if ended and data:
            raise _surplus(encoding)
        while not ended:
            try:
                piece = decompressor.decompress(data, PIECE_BYTES_MAX)
            except zstd.ZstdError as error:
                raise _corrupt(encoding, error) from None
            data = b""
            yield piece
            ended = decompressor.eof
            if ended and decompressor.unused_data:
                raise _surplus(encoding)
            if decompressor.needs_input:
                return

    def end(self, encoding: str) -> None:
        if not self._decompressor.eof:
            raise _cut(encoding)


def _decoder(encoding: str) -> "_Zlib | _Zstd":
    if encoding == "zstd":
        return _Zstd()
    return _Zlib(_GZIP_WBITS if encoding == "gzip" else None)


def _feed_all(decoder: "_Zlib | _Zstd", encoding: str, pieces: Iterable[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        yield from decoder.feed(piece, encoding)


def _decode_one(pieces: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    decoder = _decoder(encoding)
    yield from _feed_all(decoder, encoding, pieces)
    decoder.end(encoding)


def _bounded(pieces: Iterable[bytes], bytes_max: int) -> Iterator[bytes]:
    total = 0
    for piece in pieces:
        total += len(piece)
        if total > bytes_max:
            raise TooLarge(
                f"the body decompressed passes the limit of {bytes_max} bytes",
                where="body",
                hint="send fewer rows at once, or raise server.body_bytes_max",
            )
        yield piece


def _corrupt(encoding: str, error: Exception) -> InvalidInput:
    return InvalidInput(f"the body is not {encoding}, as its content-encoding says: {error}", where="body")


def _cut(encoding: str) -> InvalidInput:
    return InvalidInput(f"the body is {encoding} that ends early", where="body")


def _surplus(encoding: str) -> InvalidInput:
    return InvalidInput(f"the body goes on after the end of its {encoding}", where="body")


def answer_encoding(header: bytes) -> str | None:
    """The encoding for an answer to who sent this Accept-Encoding; None: as it is.

    The one liked best, of equals the one that most clients read. What is wrong in the header is passed over.
    """
    weights: dict[str, float] = {}
    for part in header.decode("latin-1").lower().split(","):
        name, _, parameter = part.partition(";")
        name = name.strip()
        weights.setdefault(_ALIASES.get(name, name), _weight(parameter))
    others = weights.get("*", 0.0)
    liked = [(weights.get(name, others), name) for name in _KNOWN]
    weight, best = max(liked, key=lambda each: each[0])
    return best if weight > 0 and weight >= weights.get("identity", 0.0) else None


def _weight(parameter: str) -> float:
    name, _, value = parameter.partition("=")
    if name.strip() != "q":
        return 1.0
    try:
        weight = float(value)
    except ValueError:
        return 0.0
    return weight if 0 <= weight <= 1 else 0.0


def compress(content: bytes, encoding: str) -> bytes:
    """The content in one of the encodings that `answer_encoding` gives."""
    return _COMPRESS[encoding](content)


_COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda content: zlib.compress(content, GZIP_LEVEL, _GZIP_WBITS),
    "deflate": lambda content: zlib.compress(content, GZIP_LEVEL),
    "zstd": lambda content: zstd.compress(content, ZSTD_LEVEL),
}
