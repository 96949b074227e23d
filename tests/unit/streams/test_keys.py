from datetime import date

import numpy as np
import polars as pl
import pytest

from penstock.core.errors import CorruptState, InvalidInput
from penstock.streams.keys import KeyTable, read_table

FRAME = pl.DataFrame({"origin": ["JFK", "LGA", None, "JFK"], "day": [date(2013, 1, 1)] * 4, "n": [1, 1, 2, 1]})


def test_equal_keys_have_one_slot() -> None:
    keys = KeyTable(["origin"])
    assert keys.slots_of(FRAME).tolist() == [0, 1, 2, 0]
    assert keys.slots_of(FRAME.reverse()).tolist() == [0, 2, 1, 0]
    assert len(keys) == 3
    assert keys.values(np.array([2, 0])).to_dict(as_series=False) == {"origin": [None, "JFK"]}


def test_keys_of_several_columns() -> None:
    keys = KeyTable(["origin", "day", "n"])
    assert keys.slots_of(FRAME).tolist() == [0, 1, 2, 0]
    values = keys.values(np.array([1, 2]))
    assert values.equals(FRAME[1:3])
    assert values.schema == FRAME.schema
    assert keys.values(np.zeros(0, np.int64)).schema == FRAME.schema


def test_released_slots_are_given_again() -> None:
    keys = KeyTable(["origin"])
    keys.slots_of(FRAME)
    keys.release(np.array([0, 1]))
    assert len(keys) == 1
    assert keys.slots().tolist() == [2]
    assert keys.slots_of(pl.DataFrame({"origin": ["EWR", "JFK", "LGA"]})).tolist() == [1, 0, 3]
    assert keys.values(keys.slots()).get_column("origin").to_list() == ["JFK", "EWR", None, "LGA"]


def test_dump_and_load() -> None:
    keys = KeyTable(["origin", "n"])
    keys.slots_of(FRAME)
    keys.release(np.array([1]))
    copy = KeyTable(["origin", "n"])
    copy.load(*keys.dump())
    more = pl.DataFrame({"origin": ["X", "JFK"], "n": [0, 1]})
    assert copy.slots_of(more).tolist() == keys.slots_of(more).tolist() == [1, 0]
    table, slots, free = keys.dump()
    with pytest.raises(CorruptState, match="gaps"):
        KeyTable(["origin", "n"]).load(table, slots + 1, free)
    with pytest.raises(CorruptState):
        KeyTable(["n"]).load(table, slots, free)
    with pytest.raises(CorruptState):
        read_table(table[:30])


def test_adopting_follows_the_same_numbers() -> None:
    keys, copy = KeyTable(["origin"]), KeyTable(["origin"])
    keys.slots_of(FRAME)
    fresh = keys.take_fresh()
    assert len(keys.take_fresh()) == 0
    copy.adopt(fresh, keys.values(fresh))
    assert copy.slots_of(FRAME).tolist() == keys.slots_of(FRAME).tolist()
    with pytest.raises(CorruptState, match="other slots"):
        copy.adopt(np.array([7]), pl.DataFrame({"origin": ["EWR"]}))


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (pl.DataFrame({"other": [1]}), "not in the frame"),
        (pl.DataFrame({"origin": [1.5]}), "is no key"),
        (pl.DataFrame({"origin": [[1]]}), "is no key"),
        (pl.DataFrame({"origin": [3]}), "before they were"),
    ],
)
def test_what_cannot_be_a_key(frame: pl.DataFrame, says: str) -> None:
    keys = KeyTable(["origin"])
    keys.slots_of(FRAME)
    with pytest.raises(InvalidInput, match=says) as caught:
        keys.slots_of(frame)
    assert caught.value.hint
    assert len(keys) == 3
