import numpy as np
import pytest

from penstock.streams.windows.tiles import Field, Tiles, distinct, first_from, ranges

COUNT = Field("count", True, 0)


def put(tiles: Tiles, slots: list[int], steps: list[int], amount: int = 1) -> None:
    merge = tiles.merge(np.array(slots), np.array(steps))
    assert merge is not None
    column = tiles.column(COUNT, merge)
    column[merge.runs_at] += amount
    tiles.write(merge, {"count": column})


def held(tiles: Tiles) -> dict[tuple[int, int], int]:
    slots, steps, at = tiles.all_tiles()
    pairs = list(zip(slots.tolist(), steps.tolist(), strict=True))
    assert pairs == sorted(set(pairs))
    return dict(zip(pairs, tiles.taken(COUNT, at).tolist(), strict=True))


def test_an_arena_is_a_table_by_slot_and_step() -> None:
    """Random merges, removals and drops against a dict; regions move, and the arena is compacted."""
    generator = np.random.default_rng(3)
    tiles, expected = Tiles([COUNT], reach=50), {}
    tiles.reserve(400)
    for turn in range(300):
        rows = sorted({(int(generator.integers(400)), int(generator.integers(200)) + turn) for _ in range(150)})
        put(tiles, [slot for slot, _ in rows], [step for _, step in rows], amount=turn)
        for row in rows:
            expected[row] = expected.get(row, 0) + turn
        if turn % 10 == 3:
            gone = np.unique(generator.integers(0, 400, 20))
            bounds = generator.integers(turn, turn + 200, len(gone))
            tiles.remove_before(gone, bounds)
            for slot, bound in zip(gone.tolist(), bounds.tolist(), strict=True):
                expected = {at: n for at, n in expected.items() if at[0] != slot or at[1] >= bound}
        if turn % 50 == 9:
            tiles.drop(np.arange(5))
            expected = {at: n for at, n in expected.items() if at[0] >= 5}
        if turn % 25 == 24:
            tiles.floor = turn
            expected = {at: n for at, n in expected.items() if at[1] >= turn}
            assert held(tiles) == expected
        if turn % 100 == 99:
            tiles.sweep()
            assert tiles.count == len(expected)
    assert held(tiles) == expected
    assert tiles.size_bytes < 100 * (len(expected) + 2048)


def test_what_spans_too_much_is_left_to_the_caller() -> None:
    tiles = Tiles([COUNT], reach=1)
    tiles.reserve(2)
    assert tiles.merge(np.array([0, 1]), np.array([-(1 << 61), 1 << 61])) is None
    assert tiles.merge(np.array([0]), np.array([1 << 61])) is not None


@pytest.mark.parametrize("given", [[], [4], [1, 1, 2, 7, 7, 7]])
def test_distinct(given: list[int]) -> None:
    assert distinct(np.array(given, np.int64)).tolist() == sorted(set(given))


def test_ranges() -> None:
    assert ranges(np.array([3, 9, 0]), np.array([2, 0, 3])).tolist() == [3, 4, 0, 1, 2]
    assert ranges(np.array([], np.int64), np.array([], np.int64)).tolist() == []


@pytest.mark.parametrize(
    ("slot", "step", "at"), [(1, 0, 0), (1, 6, 1), (1, 8, 2), (2, 0, 2), (3, 0, 3), (0, 5, 0)]
)
def test_first_from(slot: int, step: int, at: int) -> None:
    slots, steps = np.array([1, 1, 2]), np.array([5, 7, 1])
    assert first_from(slots, steps, np.array([slot]), np.array([step])).tolist() == [at]
