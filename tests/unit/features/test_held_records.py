import numpy as np
import pytest

from penstock.features import held_records
from penstock.features.held_records import HeldRecords
from penstock.features.online import Answer, Record, Seen, pack_record
from penstock.features.record_arrays import UNKNOWN, Sound, sound
from penstock.features.timeline import TimelineRows, write_timelines


def records(*values: int, steps: int = 1) -> Sound:
    """Of one feature, which has that value from 0 on."""
    packed = []
    for value in values:
        columns = [np.full(steps, value)]
        (line,) = write_timelines(TimelineRows(np.arange(steps), columns, [None], np.array([steps])))
        packed.append(pack_record(Record(value, 0, line)))
    return sound(Answer(b"".join(packed), [len(each) for each in packed], (), Seen(1, 1, 1), None), 1)


def key(number: int) -> bytes:
    return b"%04d" % number


def hold(held: HeldRecords, numbers, *, steps: int = 1) -> None:
    held.hold([key(number) for number in numbers], [], records(*numbers, steps=steps))


def values(held: HeldRecords, numbers) -> list[int | None]:
    found = []
    for number in numbers:
        places = held.places([key(number)])
        found.append(None if places is None else int(held.arrays.rows(places, np.array([0]))[0, 1]))
    return found


def test_keys_are_found_again_until_they_are_forgotten():
    held = HeldRecords(1, 10**6)
    hold(held, range(1, 2000))
    held.hold([], [b"nobody"], records())

    assert values(held, [1, 1999, 2000, 1]) == [1, 1999, None, 1]
    assert held.places([b"nobody"]).tolist() == [UNKNOWN]
    assert held.missing([key(5000), b"nobody", key(1), key(5000)]) == [key(5000)]

    held.forget([key(1), b"nobody", key(7777)])

    assert values(held, [1, 2]) == [None, 2]
    assert held.missing([b"nobody"]) == [b"nobody"]
    hold(held, [3000])
    assert values(held, [3000, 2, 1999]) == [3000, 2, 1999]


def test_no_more_is_held_than_there_is_room_for_and_who_was_asked_for_stays():
    held = HeldRecords(1, 30_000)
    room = held.keys_max
    hold(held, range(room))
    assert values(held, range(room)) == list(range(room))
    hold(held, [10_000])  # the hand goes around once: nobody is asked for any more
    asked = [number for number in range(room) if values(held, [number]) != [None]][:10]

    for number in range(20_000, 20_000 + 3 * room):
        assert values(held, asked) == asked
        hold(held, [number])

    assert len(held) <= room
    assert sum(value is not None for value in values(held, range(20_000, 20_000 + 3 * room))) > room // 2
    assert held.arrays.room == room + 1


def test_more_keys_than_there_is_room_for_are_held_in_part():
    held = HeldRecords(1, 5_000)
    many = range(1, 10 * held.keys_max)
    assert not held.takes([key(number) for number in many])
    hold(held, many)

    assert values(held, many)[: held.keys_max] == list(many)[: held.keys_max]
    assert len(held) == held.keys_max


def test_longer_timelines_take_more_room_and_what_was_held_gives_way():
    held = HeldRecords(1, 50_000)
    before = held.keys_max
    hold(held, [1, 2])
    hold(held, [3], steps=50)

    assert values(held, [1, 2, 3]) == [None, None, 3]
    assert held.keys_max < before / 3
    hold(held, [4], steps=2)
    assert values(held, [3, 4]) == [3, 4]


def test_of_unknown_keys_no_more_are_held_than_a_bound(monkeypatch):
    monkeypatch.setattr(held_records, "UNKNOWN_MAX", 10)
    held = HeldRecords(1, 10**6)
    hold(held, [1])
    for number in range(100, 200):
        held.hold([], [key(number)], records())
        assert len(held) <= 11
    held.hold([], [key(number) for number in range(300, 400)], records())

    assert len(held) <= 11
    assert values(held, [1]) == [1]


@pytest.mark.parametrize("bytes_max", [0, 100])
def test_with_no_room_nothing_is_held(bytes_max):
    held = HeldRecords(1, bytes_max)
    assert not held.takes([key(1)])
    hold(held, [1])
    assert values(held, [1]) == [None]


def test_long_keys_are_not_taken():
    assert not HeldRecords(1, 10**6).takes([b"k" * 1000])
