"""The little of protobuf's encoding that is done by hand, where it spares copies and memory."""

from penstock.core.errors import InvalidInput, TooLarge

__all__ = ["FIELDS_MAX", "field", "split_field", "varint"]

FIELDS_MAX = 10_000
"""Fields of a large message, at its top level. An empty one takes two bytes, and a message in it many more."""

VARINT_BYTES_MAX = 10
_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5
_BROKEN = "the message is not protobuf"


def varint(number: int) -> bytes:
    """A number from 0 as protobuf has it: seven bits a byte, the lowest first."""
    if number < 0x80:
        return number.to_bytes(1, "little")
    groups = bytearray()
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)


def field(number: int, content: bytes) -> bytes:
    """A field of text, bytes or a message."""
    return b"".join((varint(number << 3 | _DELIMITED), varint(len(content)), content))


def split_field(message: bytes, number: int) -> tuple[bytes, list[bytes]]:
    """The message without its fields of this number, and their contents, each copied once.

    Raises `InvalidInput` for what is not protobuf, `TooLarge` for more than `FIELDS_MAX` fields.
    """
    rest: list[bytes] = []
    contents: list[bytes] = []
    wanted = number << 3 | _DELIMITED
    kept = offset = fields = 0
    while offset < len(message):
        fields += 1
        if fields > FIELDS_MAX:
            raise TooLarge(f"the message has more than {FIELDS_MAX} fields", hint="send one tensor an input")
        tag, start = _read_varint(message, offset)
        stop, content = _skip(message, start, tag & 7)
        if tag == wanted:
            rest.append(message[kept:offset])
            contents.append(message[content:stop])
            kept = stop
        offset = stop
    rest.append(message[kept:])
    return b"".join(rest), contents


def _skip(message: bytes, offset: int, kind: int) -> tuple[int, int]:
    """Where a field ends, and where its content begins, from the place after its tag."""
    start = offset
    if kind == _VARINT:
        _, stop = _read_varint(message, offset)
    elif kind == _DELIMITED:
        size, start = _read_varint(message, offset)
        stop = start + size
    elif kind == _FIXED64:
        stop = offset + 8
    elif kind == _FIXED32:
        stop = offset + 4
    else:  # groups are of the time before this protocol
        raise InvalidInput(f"{_BROKEN}: a field of kind {kind}", where="message")
    if stop > len(message):
        raise InvalidInput(f"{_BROKEN}: a field passes its end", where="message")
    return stop, start


def _read_varint(message: bytes, offset: int) -> tuple[int, int]:
    """The number at a place, and the place after it."""
    number = 0
    for index, byte in enumerate(message[offset : offset + VARINT_BYTES_MAX]):
        number |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return number, offset + index + 1
    raise InvalidInput(f"{_BROKEN}: a number without an end", where="message")
