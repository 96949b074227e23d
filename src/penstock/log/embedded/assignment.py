"""Who of a group gets which partitions: balanced, and as few of them moved as that allows.

Partitions of the same number, of topics that the same members read, go together, as with Kafka's range
assignor: a join finds both of its sides in one place. Cooperative as KIP-429 means it: what comes out is whom
partitions shall go to; each stays with its owner until that one lets go.
"""

from collections.abc import Collection, Hashable, Mapping
from typing import TypeVar

from penstock.log.records import TopicPartition

__all__ = ["assign"]

M = TypeVar("M", bound=Hashable)
_Unit = tuple[tuple[M, ...], int]


def assign(
    subscriptions: Mapping[M, Collection[str]],
    partitions: Collection[TopicPartition],
    current: Mapping[TopicPartition, M],
) -> dict[TopicPartition, M]:
    """Of each partition that anybody subscribes to, the member that it shall go to.

    `subscriptions` in the order in which members joined: ties go to the earlier. Loads, counted in partitions,
    of members with the same subscriptions differ by less than what was put together as one, and where nothing
    has to move, nothing does.
    """
    units = _units(subscriptions, partitions)
    loads = dict.fromkeys(subscriptions, 0)
    chosen: dict[_Unit[M], M] = {}
    for unit, parts in units.items():
        kept = next((current[part] for part in parts if current.get(part) in unit[0]), None)
        if kept is not None:
            chosen[unit] = kept
            loads[kept] += len(parts)
    for unit, parts in units.items():
        if unit not in chosen:
            taker = min(unit[0], key=loads.__getitem__)
            chosen[unit] = taker
            loads[taker] += len(parts)
    _level(units, chosen, loads)
    return {part: chosen[unit] for unit, parts in units.items() for part in parts}


def _units(
    subscriptions: Mapping[M, Collection[str]], partitions: Collection[TopicPartition]
) -> dict[_Unit[M], list[TopicPartition]]:
    readers: dict[str, tuple[M, ...]] = {}
    units: dict[_Unit[M], list[TopicPartition]] = {}
    for part in sorted(partitions):
        if part.topic not in readers:
            readers[part.topic] = tuple(
                member for member, topics in subscriptions.items() if part.topic in topics
            )
        if readers[part.topic]:
            units.setdefault((readers[part.topic], part.partition), []).append(part)
    return units


def _level(
    units: Mapping[_Unit[M], list[TopicPartition]], chosen: dict[_Unit[M], M], loads: dict[M, int]
) -> None:
    """Moves units from those with much to those with little, as long as that makes them more alike.

    Each move lowers the sum of the squared loads, so it ends.
    """
    moved = True
    while moved:
        moved = False
        for unit in reversed(list(units)):
            size, giver = len(units[unit]), chosen[unit]
            taker = min(unit[0], key=loads.__getitem__)
            if loads[giver] - loads[taker] > size:
                chosen[unit] = taker
                loads[giver] -= size
                loads[taker] += size
                moved = True
