"""Keys of rows, and the partitions that they say."""

import json
from datetime import date

import polars as pl

from penstock.log.partitioning import partitions_of
from penstock.streams.partition_frames import key_bytes, split_by_key


def test_a_single_key_is_its_text() -> None:
    frame = pl.DataFrame({"name": ["a", "é", None], "number": [1, -2, None], "raw": [b"\x00", b"", None]})
    assert key_bytes(frame, ["name"]) == [b"a", "é".encode(), None]
    assert key_bytes(frame, ["number"]) == [b"1", b"-2", None]
    assert key_bytes(frame, ["raw"]) == [b"\x00", b"", None]


def test_several_keys_are_an_object_that_tells_them_apart() -> None:
    frame = pl.DataFrame({"a": ['x"', "x", None], "b": [1, 1, 1], "day": [date(2013, 1, 1)] * 3})
    keys = key_bytes(frame, ["a", "b", "day"])
    assert json.loads(keys[0] or b"") == {"a": 'x"', "b": 1, "day": "2013-01-01"}
    assert len(set(keys)) == 3
    nested = pl.DataFrame({"a": [[1], [2], [1]]})
    assert key_bytes(nested, ["a"]) == [b'{"a":[1]}', b'{"a":[2]}', b'{"a":[1]}']


def test_rows_go_where_the_log_puts_their_keys_in_their_order() -> None:
    frame = pl.DataFrame({"key": [f"k{n % 13}" for n in range(200)], "number": range(200)})
    seen = []
    for partition, rows, keys in split_by_key(frame, ["key"], 4):
        assert keys is not None
        assert set(partitions_of(keys, 4).tolist()) == {partition}
        assert [key.decode() for key in keys if key is not None] == rows["key"].to_list()
        assert rows["number"].is_sorted()
        seen += rows["number"].to_list()
    assert sorted(seen) == list(range(200))


def test_without_a_key_all_rows_stay_together() -> None:
    frame = pl.DataFrame({"number": [1, 2]})
    ((partition, rows, keys),) = split_by_key(frame, [], 4)
    assert (partition, rows.height, keys) == (0, 2, None)
