from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from penstock.streams import keys as keys_module
from penstock.streams.key_index import KeyIndex, indexes
from penstock.streams.keys import KeyTable

BEGIN = datetime(2024, 1, 1, tzinfo=UTC)
COLUMNS = {
    "text": [None, "", *(f"a key that is longer than twelve bytes, {number}" for number in range(998))],
    "integer": [None, *range(-499, 500)],
    "time": [None, *(BEGIN + timedelta(milliseconds=number) for number in range(999))],
}


@pytest.mark.parametrize("columns", [["text"], ["integer"], ["time"], ["text", "integer"], ["integer", "time"]])
def test_what_is_found_is_in_it(columns: list[str]) -> None:
    every = pl.DataFrame(COLUMNS).select(columns)
    assert indexes(tuple(every.dtypes))
    slots = np.random.default_rng(1).permutation(2000)[:500]
    index = KeyIndex(every[:500], slots)
    found = index.find(every)
    assert (found[500:] == -1).all()
    there = found[:500] >= 0
    assert (found[:500] == slots)[there].all()
    assert there.mean() > 0.9
    index.remove(np.array([*slots[:100], 5000]))
    assert (index.find(every)[:100] == -1).all()
    assert (index.find(every)[100:] == found[100:]).all()


def test_of_no_keys_none_is_found() -> None:
    index = KeyIndex(pl.DataFrame({"text": ["a"]}), np.array([7]))
    assert index.find(pl.DataFrame({"text": ["a", "b"]})).tolist() == [7, -1]
    index.remove(np.array([7]))
    assert index.find(pl.DataFrame({"text": ["a", None]})).tolist() == [-1, -1]


@pytest.mark.parametrize("dtype", [pl.Categorical(), pl.Binary(), pl.Decimal(10, 2)])
def test_other_types_go_by_the_dictionary(dtype: pl.DataType) -> None:
    assert not indexes((pl.String(), dtype))


@pytest.mark.parametrize("columns", [["text"], ["text", "integer"]])
def test_a_table_with_an_index_is_one_without(columns: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys come, go and come again, and the tables are dumped and loaded; the index rests now and then."""
    monkeypatch.setattr(keys_module, "REST_FRAMES", 2)
    generator = np.random.default_rng(5)
    every = pl.DataFrame(COLUMNS).select(columns)
    tables = {1: KeyTable(columns), 1 << 30: KeyTable(columns)}
    for turn in range(60):
        frame = every[generator.integers(0, 1000, 80)]
        gone = generator.random(tables[1].slots_end + 80) < 0.1
        seen = []
        for indexed_min, table in tables.items():
            monkeypatch.setattr(keys_module, "INDEXED_MIN", indexed_min)
            slots, fresh = table.slots_of(frame), table.take_fresh()
            assert table.values(slots).equals(frame)
            held = table.slots()
            table.release(held[gone[held]])
            seen.append((slots.tolist(), fresh.tolist(), len(table)))
            if turn % 20 == 13:
                other = KeyTable(columns)
                other.load(*table.dump())
                tables[indexed_min] = other
        assert seen[0] == seen[1]


def test_an_index_that_finds_few_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    find = KeyIndex.find

    def counted(index: KeyIndex, keys: pl.DataFrame) -> np.ndarray:
        asked.append(keys.height)
        return find(index, keys)

    monkeypatch.setattr(KeyIndex, "find", counted)
    monkeypatch.setattr(keys_module, "INDEXED_MIN", 10)
    monkeypatch.setattr(keys_module, "REST_FRAMES", 3)
    table = KeyTable(["integer"])

    def slots_of(first: int, rows: int) -> list[int]:
        return table.slots_of(pl.DataFrame({"integer": range(first, first + rows)})).tolist()

    assert slots_of(0, 20) == list(range(20))
    assert slots_of(10, 20) == list(range(10, 30))
    assert asked == [20], "a half is not more than a half"
    assert slots_of(25, 11) == list(range(25, 36))
    assert asked == [20, 11]
    for _ in range(3):
        assert slots_of(0, 7) == list(range(7))
    assert asked == [20, 11]
    assert slots_of(0, 7) == list(range(7))
    assert asked == [20, 11, 7]
