"""Where in a topic: what `--from` and `--until` mean."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from penstock.core.errors import InvalidInput, NotFound, shown
from penstock.log.records import TopicPartition

if TYPE_CHECKING:
    from penstock.log.port import Admin, TopicInfo

__all__ = ["find_topic", "offset_of", "partitions_of_topic"]


def find_topic(admin: "Admin", name: str) -> "TopicInfo":
    """Raises `NotFound`."""
    found = next((info for info in admin.topics() if info.spec.name == name), None)
    if found is None:
        raise NotFound(f"there is no topic {shown(name)}", hint="`penstock log topics` lists those there are")
    return found


def partitions_of_topic(info: "TopicInfo", partition: int | None) -> list[TopicPartition]:
    """All of them, or the one. Raises `NotFound`."""
    count = info.spec.partitions
    if partition is not None and partition >= count:
        raise NotFound(f"topic {info.spec.name} has no partition {partition}", hint=f"it has 0 to {count - 1}")
    numbers = range(count) if partition is None else [partition]
    return [TopicPartition(info.spec.name, number) for number in numbers]


def offset_of(admin: "Admin", info: "TopicInfo", source: TopicPartition, where: str) -> int:
    """The offset in a partition that is meant by `begin`, `end`, a number or a time.

    Raises `InvalidInput` for what is none of these.
    """
    begins, ends = info.begins[source.partition], info.ends[source.partition]
    if where == "begin":
        return begins
    if where == "end":
        return ends
    if where.isascii() and where.isdecimal():
        return min(max(int(where), begins), ends)
    try:
        time = datetime.fromisoformat(where)
    except ValueError:
        raise InvalidInput(
            f"{shown(where)} is no place in a topic",
            hint="write begin, end, an offset, or a time such as 2013-01-01T12:00 (UTC unless it says)",
        ) from None
    if time.tzinfo is None:
        time = time.replace(tzinfo=UTC)
    return admin.offset_at(source, round(time.timestamp() * 1000))
