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
    """Keys come, go and come again, and the tables are dumped and loaded."""
    generator = np.random.default_rng(5)
    every = pl.DataFrame(COLUMNS).select(columns)
    tables = {1: KeyTable(columns), 1 << 30: KeyTable(columns)}
    for turn in range(60):
        frame = every[generator.integers(0, 1000, 80)]
        gone = generator.random(tables[1].slots_end + 80) < 0.1
        seen = []
        for wide_rows, table in tables.items():
            monkeypatch.setattr(keys_module, "WIDE_ROWS", wide_rows)
            slots, fresh = table.slots_of(frame), table.take_fresh()
            assert table.values(slots).equals(frame)
            held = table.slots()
            table.release(held[gone[held]])
            seen.append((slots.tolist(), fresh.tolist(), len(table)))
            if turn % 20 == 13:
                other = KeyTable(columns)
                other.load(*table.dump())
                tables[wide_rows] = other
        assert seen[0] == seen[1]


def test_narrow_frames_go_by_the_dictionary(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    find = KeyIndex.find

    def counted(index: KeyIndex, keys: pl.DataFrame) -> np.ndarray:
        asked.append(keys.height)
        return find(index, keys)

    monkeypatch.setattr(KeyIndex, "find", counted)
    monkeypatch.setattr(keys_module, "KEYS_MANY", 30)
    monkeypatch.setattr(keys_module, "WIDE_ROWS", 20)
    monkeypatch.setattr(keys_module, "WIDE_ROWS_OF_MANY", 10)
    table = KeyTable(["integer"])

    def slots_of(first: int, rows: int) -> list[int]:
        return table.slots_of(pl.DataFrame({"integer": range(first, first + rows)})).tolist()

    assert slots_of(0, 20) == list(range(20))
    assert slots_of(0, 19) == list(range(19))
    assert asked == [], "there was no key to make an index of, and then no row too many"
    assert slots_of(15, 20) == list(range(15, 35))
    assert slots_of(0, 9) == list(range(9))
    assert slots_of(0, 10) == list(range(10))
    assert asked == [20, 10], "of many keys from fewer rows on"


def test_the_index_is_built_anew_when_as_many_rows_have_missed_it_as_there_are_keys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    built: list[int] = []

    class Counted(KeyIndex):
        def __init__(self, keys: pl.DataFrame, slots: np.ndarray) -> None:
            built.append(len(slots))
            super().__init__(keys, slots)

    monkeypatch.setattr(keys_module, "KeyIndex", Counted)
    monkeypatch.setattr(keys_module, "WIDE_ROWS", 1)
    table = KeyTable(["integer"])
    for first in (0, 0, 10, 10, 10, 10):
        table.slots_of(pl.DataFrame({"integer": range(first, first + 10)}))
    assert built == [10, 20]
