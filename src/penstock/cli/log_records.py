"""Records as lines, and lines as records."""

import os
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence

import msgspec
import numpy as np

from penstock.cli.times import time_text
from penstock.core.errors import InvalidInput, shown
from penstock.log.records import Fetched, Records

__all__ = ["key_of", "lines_of", "record_line", "record_row", "records_of"]

READ_BYTES = 1024 * 1024
LINE_BYTES_MAX = 64 * 1024 * 1024
SHOWN_BYTES = 32
_NO_TEXT = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f]")
"""Control characters but white space and escape: they stand in MessagePack, Arrow, states and the like."""
_PLAIN = range(0x20, 0x7F)


def record_row(fetched: Fetched, index: int) -> dict[str, object]:
    """A record for `--json`. What is not UTF-8 is in base64, under a name that says so."""
    records = fetched.records
    row: dict[str, object] = {
        "topic": fetched.source.topic,
        "partition": fetched.source.partition,
        "offset": int(fetched.offsets[index]),
        "time": time_text(int(records.times_ms[index])),
    }
    if records.keys is not None:
        row |= _text("key", records.keys[index])
    row |= _text("value", records.values[index])
    headers = records.headers[index] if records.headers is not None else None
    if headers:
        row["headers"] = _headers(headers)
    return row


def record_line(fetched: Fetched, index: int) -> str:
    """A record for people: partition/offset, time, key where there is one, value."""
    records = fetched.records
    key = records.keys[index] if records.keys is not None else None
    return "  ".join(
        (
            f"{fetched.source.partition}/{int(fetched.offsets[index])}",
            time_text(int(records.times_ms[index])),
            *([] if key is None else [_shown(key)]),
            _shown(records.values[index]),
        )
    )


def lines_of(descriptor: int) -> Iterator[list[bytes]]:
    """The lines that can be read, as they come, without their ends; empty ones are left out."""
    rest = b""
    while piece := os.read(descriptor, READ_BYTES):
        *lines, rest = (rest + piece).split(b"\n")
        if len(rest) > LINE_BYTES_MAX:
            raise InvalidInput(
                f"a line has more than {LINE_BYTES_MAX} bytes", hint="send events as one line each"
            )
        if lines := [line.removesuffix(b"\r") for line in lines if line.strip()]:
            yield lines
    if rest.strip():
        yield [rest.removesuffix(b"\r")]


def records_of(lines: Sequence[bytes], time_ms: int, key_field: str | None, first_line: int) -> Records:
    """Lines as values, with a field of each as its key. Raises `InvalidInput` for one without it."""
    keys = None
    if key_field is not None:
        keys = [key_of(line, key_field, first_line + number) for number, line in enumerate(lines)]
    return Records(values=lines, times_ms=np.full(len(lines), time_ms, dtype=np.int64), keys=keys)


def key_of(line: bytes, field: str, number: int) -> bytes | None:
    """The field as text; null is no key. Raises `InvalidInput` for what is no object, or has no such field."""
    try:
        event = msgspec.json.decode(line)
    except msgspec.DecodeError as error:
        raise InvalidInput(f"line {number} is no JSON: {error}", where=f"line {number}") from None
    if not isinstance(event, dict) or field not in event:
        raise InvalidInput(
            f"line {number} has no field {shown(field)} to take the key from", where=f"line {number}"
        )
    value = event[field]
    if value is None:
        return None
    return value.encode() if isinstance(value, str) else msgspec.json.encode(value)


def _text(name: str, value: bytes | None) -> dict[str, object]:
    if value is None:
        return {name: None}
    try:
        return {name: value.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": b64encode(value).decode()}


def _headers(headers: Mapping[str, bytes]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in headers.items():
        found |= _text(name, value)
    return found


def _shown(value: bytes) -> str:
    """Printable on one line, whatever it holds: a terminal obeys what it is sent. Of what is no text the begin
    and the length.
    """
    if not value:
        return "(empty)"
    if _NO_TEXT.search(value):
        begin = "".join(f"\\x{byte:02x}" if byte not in _PLAIN else chr(byte) for byte in value[:SHOWN_BYTES])
        return f"{begin}{'…' if len(value) > SHOWN_BYTES else ''}  ({len(value)} bytes, no text)"
    text = value.decode(errors="backslashreplace")
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
