import numpy as np

from penstock.streams.windows.due_times import DueTimes


def test_due_times_are_a_dictionary_of_times() -> None:
    generator = np.random.default_rng(2)
    due, expected = DueTimes(), {}
    assert due.take(1 << 60).tolist() == []
    for turn in range(200):
        end = 10 * (turn + 1)
        due.reserve(end)
        slots, times_ms = generator.integers(0, end, 30), generator.integers(turn - 5, turn + 50, 30)
        due.expect(slots, times_ms)
        for slot, time_ms in zip(slots.tolist(), times_ms.tolist(), strict=True):
            expected[slot] = min(time_ms, expected.get(slot, time_ms))
        if turn % 3 == 0:
            found = sorted(slot for slot, time_ms in expected.items() if time_ms <= turn)
            assert due.take(turn).tolist() == found
            expected = {slot: time_ms for slot, time_ms in expected.items() if slot not in found}
    assert due.take(1 << 60).tolist() == sorted(expected)
