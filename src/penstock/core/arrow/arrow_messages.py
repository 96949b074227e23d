"""Arrow IPC streams, cut into their messages as the bytes come.

What is read of a message is its frame: the continuation marker, the length of its metadata and, in that (a
FlatBuffers table `Message`), its kind and the length of its body. Sources: the Arrow columnar format,
"Encapsulated message format"; `format/Message.fbs`.
"""

import enum
import struct
from typing import NamedTuple

from penstock.core.arrow.flatbuffers import Table, broken_stream
from penstock.core.errors import TooLarge

__all__ = ["END_OF_STREAM", "ArrowMessage", "ArrowMessages", "MessageKind"]

METADATA_BYTES_MAX = 4 * 1024 * 1024
END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"
_FRAME = struct.Struct("<Ii")
_CONTINUATION = 0xFFFFFFFF
_KIND_FIELD, _HEADER_FIELD, _BODY_FIELD = 1, 2, 3
"""The numbers of `header_type`, `header` and `bodyLength` in `Message`."""


class MessageKind(enum.Enum):
    """By the numbers of the union `MessageHeader`."""

    SCHEMA = 1
    DICTIONARY = 2
    RECORDS = 3


class ArrowMessage(NamedTuple):
    """One message as it came: `content` is frame, metadata and body, which begins at `body_at`."""

    kind: MessageKind
    content: bytes
    body_at: int

    @property
    def header(self) -> Table:
        """The table of its kind: `Schema`, `DictionaryBatch` or `RecordBatch`. Raises `InvalidInput`."""
        header = Table.root(self.content[_FRAME.size : self.body_at]).table(_HEADER_FIELD)
        if header is None:
            raise broken_stream("a message has no header")
        return header

    @property
    def body(self) -> memoryview:
        return memoryview(self.content)[self.body_at :]


class ArrowMessages:
    """Fed with bytes, gives messages; holds no more than one that has begun."""

    __slots__ = ("_buffer", "_ended", "_message_bytes_max", "_needed")

    def __init__(self, *, message_bytes_max: int) -> None:
        self._message_bytes_max = message_bytes_max
        self._buffer = bytearray()
        self._needed = _FRAME.size
        self._ended = False

    @property
    def ended(self) -> bool:
        """Whether the stream has said that it ends."""
        return self._ended

    def feed(self, data: bytes) -> list[ArrowMessage]:
        """The messages that `data` ends. Raises `InvalidInput` for what is no Arrow stream, `TooLarge`."""
        self._buffer += data
        found = []
        while len(self._buffer) >= self._needed and not self._ended:
            message = self._next()
            if message is not None:
                found.append(message)
        if self._ended and self._buffer:
            raise broken_stream("there are bytes after its end")
        return found

    def finish(self) -> None:
        """Nothing more comes. Raises `InvalidInput` where a message is not whole."""
        if self._buffer:
            raise broken_stream(f"it ends within a message, after {len(self._buffer)} of its bytes")

    def _next(self) -> ArrowMessage | None:
        """The next message, where it is whole; else what it needs is known better."""
        buffer = self._buffer
        marker, metadata_bytes = _FRAME.unpack_from(buffer)
        if marker != _CONTINUATION:
            raise broken_stream("a message does not begin with the continuation marker")
        if metadata_bytes == 0:
            self._ended = True
            del buffer[: _FRAME.size]
            return None
        if not 8 <= metadata_bytes <= METADATA_BYTES_MAX:
            raise broken_stream(f"a message has {metadata_bytes} bytes of metadata")
        self._needed = _FRAME.size + metadata_bytes
        if len(buffer) < self._needed:
            return None
        body_at = self._needed
        kind, body_bytes = _read_metadata(bytes(buffer[_FRAME.size : body_at]))
        size = body_at + body_bytes
        if size > self._message_bytes_max:
            raise TooLarge(
                f"an Arrow message has {size} bytes, the limit is {self._message_bytes_max}",
                where="body",
                hint="write record batches of fewer rows",
            )
        self._needed = size
        if len(buffer) < size:
            return None
        content = bytes(buffer[:size])
        del buffer[:size]
        self._needed = _FRAME.size
        return ArrowMessage(kind, content, body_at)


def _read_metadata(metadata: bytes) -> tuple[MessageKind, int]:
    """A message's kind and the length of its body."""
    message = Table.root(metadata)
    number = message.number(_KIND_FIELD, "<B")
    body_bytes = message.number(_BODY_FIELD, "<q")
    try:
        kind = MessageKind(number)
    except ValueError:
        raise broken_stream(
            f"a message is of kind {number}, which is no schema, dictionary or records"
        ) from None
    if body_bytes < 0:
        raise broken_stream(f"a message has a body of {body_bytes} bytes")
    return kind, body_bytes
