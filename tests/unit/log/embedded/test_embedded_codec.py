"""Frames of records: what is inside them, and what is no frame."""

import json

import numpy as np
import pytest

from penstock.log.embedded.codec import decode_records, encode_records
from penstock.log.records import Records


def test_json_is_kept_in_a_fraction_of_its_size() -> None:
    values = [
        json.dumps({"flight": number, "origin": "JFK", "delay": number % 70}).encode() for number in range(500)
    ]
    frame = encode_records(Records(values=values, times_ms=np.arange(500)))
    assert len(frame.body) < sum(map(len, values)) / 3
    assert (frame.count, frame.time_min_ms, frame.time_max_ms) == (500, 0, 499)


def test_what_does_not_compress_is_kept_as_it_is() -> None:
    value = np.random.default_rng(1).bytes(10_000)
    assert len(encode_records(Records(values=[value], times_ms=np.zeros(1, dtype=np.int64))).body) < 10_100


def test_another_format_is_refused() -> None:
    body = encode_records(Records(values=[b"a"], times_ms=np.zeros(1, dtype=np.int64))).body
    with pytest.raises(ValueError, match="its format is 9"):
        decode_records(b"\x09" + body[1:])


def test_times_of_any_distance() -> None:
    times = np.array([-(2**63), 2**63 - 1, 0, 5])
    body = encode_records(Records(values=[b""] * 4, times_ms=times)).body
    assert decode_records(body).times_ms.tolist() == times.tolist()
