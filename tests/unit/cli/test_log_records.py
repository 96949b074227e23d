"""What a person sees of a record."""

import numpy as np
import pytest

from penstock.cli.log_records import record_line
from penstock.log.records import Fetched, Records, TopicPartition


def line(value: bytes, key: bytes | None = None) -> str:
    records = Records(values=[value], times_ms=np.array([0]), keys=[key])
    fetched = Fetched(source=TopicPartition("topic", 3), offsets=np.array([7]), records=records, next_offset=8)
    place, time, *rest = record_line(fetched, 0).split("  ")
    assert (place, time) == ("3/7", "1970-01-01T00:00:00.000Z")
    return "  ".join(rest)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b'{"a": "\xc3\xa9"}', '{"a": "é"}'),
        (b"", "(empty)"),
        (b"two\nlines\tand \x1b[31mred", "two\\nlines\\tand \\x1b[31mred"),
        (b"caf\xe9", "caf\\xe9"),
        (b"\x93\x01\xa1a\xff", "\\x93\\x01\\xa1a\\xff  (5 bytes, no text)"),
        (b"PST1" + bytes(600), "PST1" + 28 * "\\x00" + "…  (604 bytes, no text)"),
        (bytes(32), 32 * "\\x00" + "  (32 bytes, no text)"),
    ],
)
def test_values_are_one_printable_line(value: bytes, shown: str) -> None:
    assert line(value) == shown
    assert line(value).isprintable()


def test_a_key_stands_before_its_value() -> None:
    assert line(b"value", b"key") == "key  value"
    assert line(b"value", b"\x00\x01") == "\\x00\\x01  (2 bytes, no text)  value"
