"""Arrow IPC streams, cut into their messages as the bytes come.

What is read of a message is its frame: the continuation marker, the length of its metadata and, in that (a
FlatBuffers table `Message`), its kind and the length of its body. Columns are Polars's concern. Sources: the
Arrow columnar format, "Encapsulated message format"; `format/Message.fbs`; the FlatBuffers binary format.
"""

import enum
import struct
from typing import NamedTuple

from penstock.core.errors import InvalidInput, TooLarge

__all__ = ["END_OF_STREAM", "ArrowMessage", "ArrowMessages", "MessageKind"]

METADATA_BYTES_MAX = 4 * 1024 * 1024
END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"
_FRAME = struct.Struct("<Ii")
_CONTINUATION = 0xFFFFFFFF
_KIND_FIELD, _HEADER_FIELD, _BODY_FIELD = 1, 2, 3
_COMPRESSION_FIELD = 3
"""The places of `header_type`, `header` and `bodyLength` in `Message`, and of `compression` in `RecordBatch`."""


class MessageKind(enum.Enum):
    """By the numbers of the union `MessageHeader`."""

    SCHEMA = 1
    DICTIONARY = 2
    RECORDS = 3


class ArrowMessage(NamedTuple):
    """One message as it came, frame, metadata, body and all."""

    kind: MessageKind
    content: bytes


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
            raise _broken("there are bytes after its end")
        return found

    def finish(self) -> None:
        """Nothing more comes. Raises `InvalidInput` where a message is not whole."""
        if self._buffer:
            raise _broken(f"it ends within a message, after {len(self._buffer)} of its bytes")

    def _next(self) -> ArrowMessage | None:
        """The next message, where it is whole; else what it needs is known better."""
        buffer = self._buffer
        marker, metadata_bytes = _FRAME.unpack_from(buffer)
        if marker != _CONTINUATION:
            raise _broken("a message does not begin with the continuation marker")
        if metadata_bytes == 0:
            self._ended = True
            del buffer[: _FRAME.size]
            return None
        if not 8 <= metadata_bytes <= METADATA_BYTES_MAX:
            raise _broken(f"a message has {metadata_bytes} bytes of metadata")
        self._needed = _FRAME.size + metadata_bytes
        if len(buffer) < self._needed:
            return None
        kind, body_bytes = _read_metadata(bytes(buffer[_FRAME.size : self._needed]))
        size = self._needed + body_bytes
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
        return ArrowMessage(kind, content)


def _read_metadata(metadata: bytes) -> tuple[MessageKind, int]:
    """A message's kind and the length of its body."""
    try:
        message = struct.unpack_from("<I", metadata)[0]
        kind_at = _field(metadata, message, _KIND_FIELD)
        body_at = _field(metadata, message, _BODY_FIELD)
        number = metadata[kind_at] if kind_at else 0
        body_bytes = struct.unpack_from("<q", metadata, body_at)[0] if body_at else 0
        if number == MessageKind.RECORDS.value:
            header_at = _field(metadata, message, _HEADER_FIELD)
            header = header_at + struct.unpack_from("<I", metadata, header_at)[0]
            if _field(metadata, header, _COMPRESSION_FIELD):
                raise _broken("its buffers are compressed", hint="write it without compression")
        kind = MessageKind(number)
    except (struct.error, IndexError):
        raise _broken("a message's metadata points outside of itself") from None
    except ValueError:
        raise _broken(f"a message is of kind {number}, which is no schema, dictionary or records") from None
    if body_bytes < 0:
        raise _broken(f"a message has a body of {body_bytes} bytes")
    return kind, int(body_bytes)


def _field(metadata: bytes, table: int, field: int) -> int:
    """Where a table's field is; 0: it is not there. Raises `struct.error` past the end."""
    vtable = table - int(struct.unpack_from("<i", metadata, table)[0])
    if vtable < 0:
        raise struct.error
    slots = (int(struct.unpack_from("<H", metadata, vtable)[0]) - 4) // 2
    if field >= slots:
        return 0
    offset = int(struct.unpack_from("<H", metadata, vtable + 4 + 2 * field)[0])
    return table + offset if offset else 0


def _broken(what: str, hint: str | None = None) -> InvalidInput:
    return InvalidInput(f"this Arrow stream cannot be read: {what}", where="body", hint=hint)
