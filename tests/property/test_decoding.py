"""Bytes among good rows: nothing is raised, no good row is lost, changed or moved, and bad ones are told."""

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.log.records import Records
from penstock.streams.decoding import Decoded, decoder_of
from penstock.streams.schema import StreamSchema

NOW_MS = 1_357_000_000_000
FIELDS: dict[str, Any] = {"id": int, "name": str | None, "delay": float | None, "at": int}
SCHEMA = StreamSchema.of(FIELDS, time="at")
PLAIN = {
    form: getattr(msgspec, form).Decoder(msgspec.defstruct("Plain", list(FIELDS.items())))
    for form in ("json", "msgpack")
}

events = st.fixed_dictionaries(
    {
        "id": st.integers(-(2**63), 2**63 - 1),
        "name": st.none() | st.text(max_size=8),
        "delay": st.none() | st.floats(allow_nan=False, allow_infinity=False),
        "at": st.integers(0, NOW_MS),
    }
)
pieces = st.sampled_from(
    [b"{", b"}", b"[", b"]", b",", b":", b'"', b'"id"', b"1", b"null", b"NaN", b"\\ud800", b"\xff", b" "]
)
noise = st.binary(max_size=40) | st.lists(pieces, max_size=12).map(b"".join)


@st.composite
def damaged(draw: st.DrawFn, form: str) -> bytes:
    """A good value with something put in its place."""
    value = encode(form, draw(events))
    at = draw(st.integers(0, len(value)))
    return value[:at] + draw(noise) + value[at + draw(st.integers(0, 5)) :]


def encode(form: str, event: dict[str, Any]) -> bytes:
    encoded: bytes = getattr(msgspec, form).encode(event)
    return encoded


def decode(form: Any, values: list[bytes]) -> Decoded:
    offsets = np.arange(len(values), dtype=np.int64) * 3
    return decoder_of(form, SCHEMA).decode(Records(values=values, times_ms=offsets), offsets, NOW_MS)


def expected(form: str, value: bytes) -> tuple[Any, ...] | None:
    """What msgspec says of the value alone, with the bounds of a column and a time."""
    try:
        row = PLAIN[form].decode(value)
        (row.name or "").encode()
    except (ValueError, RecursionError):
        return None
    fits = -(2**63) <= row.id < 2**63 and 0 <= row.at <= NOW_MS + 86_400_000
    return (row.id, row.name, row.delay, row.at) if fits else None


@pytest.mark.parametrize("form", ["json", "msgpack"])
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)  # the first text takes seconds
@given(data=st.data())
def test_every_value_is_read_as_it_would_be_alone(form: str, data: st.DataObject) -> None:
    values = data.draw(
        st.lists(events.map(lambda each: encode(form, each)) | noise | damaged(form), max_size=12)
    )
    got = decode(form, values)
    alone = [expected(form, value) for value in values]
    good = [place for place, row in enumerate(alone) if row is not None]
    assert [bad.position for bad in got.bad] == [place for place, row in enumerate(alone) if row is None]
    assert got.frame["_offset"].to_list() == [3 * place for place in good]
    rows = got.frame.select("id", "name", "delay", "at").rows()
    assert repr(rows) == repr([alone[place] for place in good])
    assert got.frame["_time"].to_list() == [row[3] for row in rows]


@pytest.mark.parametrize("form", ["json", "msgpack"])
@settings(deadline=None)
@given(
    good=st.lists(events, min_size=1, max_size=8),
    poison=st.lists(noise, min_size=1, max_size=8),
    places=st.lists(st.integers(0, 8), min_size=8, max_size=8),
)
def test_neighbours_of_poison(form: str, good: list[Any], poison: list[bytes], places: list[int]) -> None:
    values = [encode(form, event) for event in good]
    alone = decode(form, values).frame.drop("_offset")
    for bytes_, place in zip(poison, places, strict=False):
        if expected(form, bytes_) is None:
            values.insert(min(place, len(values)), bytes_)
    got = decode(form, values)
    assert got.frame.drop("_offset").equals(alone, null_equal=True)
    assert len(got.bad) == len(values) - len(good)
