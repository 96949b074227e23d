"""Assignments are balanced, keep what they can, and put the sides of joins together."""

import random

import pytest

from penstock.log.embedded.assignment import assign
from penstock.log.records import TopicPartition


def partitions(**counts: int) -> list[TopicPartition]:
    return [TopicPartition(topic, number) for topic, count in counts.items() for number in range(count)]


def loads(assigned: dict[TopicPartition, str], members: list[str]) -> list[int]:
    return [sum(owner == member for owner in assigned.values()) for member in members]


def test_nobody_and_nothing() -> None:
    assert assign({}, partitions(a=2), {}) == {}
    assert assign({"m": ["a"]}, [], {}) == {}
    assert assign({"m": ["other"]}, partitions(a=2), {}) == {}


@pytest.mark.parametrize("members", range(1, 9))
def test_balance(members: int) -> None:
    names = [f"m{number}" for number in range(members)]
    assigned = assign({name: ["a"] for name in names}, partitions(a=7), {})
    assert len(assigned) == 7
    assert max(loads(assigned, names)) - min(loads(assigned, names)) <= 1


def test_a_new_member_takes_only_its_share() -> None:
    before = assign({"m0": ["a"], "m1": ["a"]}, partitions(a=9), {})
    after = assign({"m0": ["a"], "m1": ["a"], "m2": ["a"]}, partitions(a=9), before)
    moved = [part for part in after if after[part] != before[part]]
    assert len(moved) == 3
    assert {after[part] for part in moved} == {"m2"}


def test_what_a_member_leaves_behind_goes_to_the_others_and_nothing_else_moves() -> None:
    names = ["m0", "m1", "m2"]
    before = assign({name: ["a"] for name in names}, partitions(a=9), {})
    after = assign({"m0": ["a"], "m2": ["a"]}, partitions(a=9), before)
    assert all(after[part] == owner for part, owner in before.items() if owner != "m1")
    assert sorted(loads(after, ["m0", "m2"])) == [4, 5]


def test_the_sides_of_a_join_go_together() -> None:
    names = ["m0", "m1", "m2"]
    assigned = assign({name: ["a", "b"] for name in names}, partitions(a=6, b=6), {})
    assert all(
        assigned[TopicPartition("a", number)] == assigned[TopicPartition("b", number)] for number in range(6)
    )
    assert loads(assigned, names) == [4, 4, 4]


def test_only_who_reads_a_topic_gets_it() -> None:
    assigned = assign({"both": ["a", "b"], "b": ["b"]}, partitions(a=2, b=2), {})
    assert assigned[TopicPartition("a", 0)] == assigned[TopicPartition("a", 1)] == "both"
    assert assigned[TopicPartition("b", 0)] == assigned[TopicPartition("b", 1)] == "b"


def test_any_sequence_of_joins_and_leaves() -> None:
    """Balanced after each step; and a step that changes nothing moves nothing."""
    source = random.Random(7)
    members: list[str] = []
    current: dict[TopicPartition, str] = {}
    for step in range(300):
        if members and source.random() < 0.45:
            members.remove(source.choice(members))
        else:
            members.append(f"m{step}")
        subscriptions = {member: ["a"] for member in members}
        after = assign(subscriptions, partitions(a=13), current)
        if members:
            assert len(after) == 13
            assert max(loads(after, members)) - min(loads(after, members)) <= 1
            held = [part for part in after if current.get(part) in subscriptions]
            least_moved = sum(
                max(0, load - -(-13 // len(members)))
                for load in loads({part: current[part] for part in held}, members)
            )
            moved = sum(after[part] != current[part] for part in held)
            assert moved <= least_moved + len(members)
        assert assign(subscriptions, partitions(a=13), after) == after
        current = after
