"""The bytes of events that a later stage refused: read once more from the topic that they came in.

Rows cross from stage to stage without them, as nearly all are never needed again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from penstock.core.errors import CorruptRecords, NotFound
from penstock.log.port import Admin
from penstock.log.records import Fetched, TopicPartition
from penstock.streams.dead_letters import GONE, DeadLetter

__all__ = ["Originals"]

READ_RECORDS_MAX = 1000


class Originals:
    """`many` are topics whose records have many rows: of those a letter keeps its row alone."""

    def __init__(self, admin: Admin, many: frozenset[str] = frozenset()) -> None:
        self._admin = admin
        self._many = many

    def complete(self, letters: Sequence[DeadLetter]) -> list[DeadLetter]:
        """The letters in their order, those of later stages with their events as they came, where these are
        kept still.
        """
        wanted: dict[TopicPartition, set[int]] = {}
        for letter in letters:
            if self._is_open(letter):
                wanted.setdefault(letter.source, set()).add(letter.offset)
        found = {
            (source, offset): event
            for source, offsets in wanted.items()
            for offset, event in self._read(source, sorted(offsets))
        }
        return [
            _completed(letter, found.get((letter.source, letter.offset))) if self._is_open(letter) else letter
            for letter in letters
        ]

    def _is_open(self, letter: DeadLetter) -> bool:
        return letter.row is not None and letter.source.topic not in self._many

    def _read(
        self, source: TopicPartition, offsets: Sequence[int]
    ) -> Iterator[tuple[int, tuple[Fetched, int]]]:
        """Of each offset that is there the records in which it is, and its place among them."""
        place = 0
        while place < len(offsets):
            first = offsets[place]
            until = place
            while until < len(offsets) and offsets[until] < first + READ_RECORDS_MAX:
                until += 1
            try:
                fetched = self._admin.read(source, first, records_max=offsets[until - 1] - first + 1)
            except (CorruptRecords, NotFound):
                place = until
                continue
            there = {offset: position for position, offset in enumerate(fetched.offsets.tolist())}
            for offset in offsets[place:until]:
                if offset in there:
                    yield offset, (fetched, there[offset])
            # The log may give less than was asked for.
            reached = place + sum(offset < fetched.next_offset for offset in offsets[place:until])
            place = reached if reached > place else until


def _completed(letter: DeadLetter, event: tuple[Fetched, int] | None) -> DeadLetter:
    if event is None:
        return replace(letter, headers={**letter.headers, GONE: b"1"})
    fetched, position = event
    records = fetched.records
    return replace(
        letter,
        time_ms=int(records.times_ms[position]),
        value=records.values[position],
        key=records.keys[position] if records.keys is not None else None,
        headers=(records.headers[position] if records.headers is not None else None) or {},
    )
