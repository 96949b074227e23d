"""What a consumer has of each partition, without the client: where it is, and what waits to be given out."""

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from penstock.log.kafka.messages import fetched_of
from penstock.log.records import Fetched, TopicPartition

if TYPE_CHECKING:
    from confluent_kafka import Message

__all__ = ["Held", "Holdings"]


class Held:
    """One partition. `position` is the offset that is wanted next, None until the first is known."""

    def __init__(self, source: TopicPartition, position: int | None) -> None:
        self.source = source
        self.position = position
        self.paused = False
        self.end: int | None = None
        """Where the partition ended when all before it had been read: behind the marks of transactions, too."""
        self.waiting: deque[Message] = deque()

    def seek(self, offset: int) -> None:
        self.position, self.end = offset, None
        self.waiting.clear()

    def take(self, records_max: int, bytes_max: int) -> tuple[Fetched | None, int]:
        """What waits, at most so much, and its size. A record larger than that comes alone where
        `bytes_max` is what a whole poll may bring, which is for the caller to see to.
        """
        taken: list[Message] = []
        size = 0
        while self.waiting and len(taken) < records_max:
            size += _size(self.waiting[0])
            if taken and size > bytes_max:
                size -= _size(self.waiting[0])
                break
            taken.append(self.waiting.popleft())
        if not taken:
            return None, 0
        self.position = int(taken[-1].offset() or 0) + 1
        if not self.waiting and self.end is not None:
            self.position = max(self.position, self.end)
        return fetched_of(self.source, taken, self.position), size


class Holdings:
    """The partitions of a consumer, in turn."""

    def __init__(self) -> None:
        self._held: dict[TopicPartition, Held] = {}
        self._turn = 0

    def __contains__(self, source: object) -> bool:
        return source in self._held

    @property
    def sources(self) -> frozenset[TopicPartition]:
        return frozenset(self._held)

    def of(self, source: TopicPartition) -> Held:
        assert source in self._held, f"{source} is assigned to this consumer"
        return self._held[source]

    def add(self, source: TopicPartition, position: int | None) -> None:
        self._held[source] = Held(source, position)

    def remove(self, sources: Sequence[TopicPartition]) -> list[TopicPartition]:
        """Those of them that were held."""
        return [source for source in sources if self._held.pop(source, None) is not None]

    def came(self, message: "Message") -> None:
        """A record. One that is not wanted any more is dropped: of a partition that went, or before a seek."""
        held = self._held.get(TopicPartition(message.topic() or "", message.partition() or 0))
        offset = message.offset() or 0
        if held is not None and (held.position is None or offset >= held.position):
            held.waiting.append(message)

    def ended(self, source: TopicPartition, offset: int) -> None:
        """There is nothing more before that offset."""
        if (held := self._held.get(source)) is not None:
            held.end = offset

    @property
    def waits(self) -> bool:
        return any(held.waiting and not held.paused for held in self._held.values())

    def take(self, records_max: int, bytes_max: int) -> list[Fetched]:
        """What waits in partitions that are not paused, at most so much, and one record at least."""
        ready = [held for held in self._held.values() if held.waiting and not held.paused]
        if not ready:
            return []
        self._turn = (self._turn + 1) % len(ready)
        fetched: list[Fetched] = []
        for held in ready[self._turn :] + ready[: self._turn]:
            if records_max <= 0 or (fetched and _size(held.waiting[0]) > bytes_max):
                continue
            found, size = held.take(records_max, bytes_max)
            if found is not None:
                fetched.append(found)
                records_max -= len(found.records)
                bytes_max -= size
        return fetched


def _size(message: "Message") -> int:
    return len(message.value() or b"") + len(message.key() or b"")
