"""The dead letters of a log: found, counted, and sent back to where they came from, each once.

What was replayed is noted in the dead-letter topic itself, in the same transaction as the events: a letter is
replayed and noted, or neither.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from operator import lt

import msgspec
import numpy as np

from penstock.core.errors import InvalidInput, NotFound
from penstock.log.port import Admin, Log, TopicInfo, Transaction
from penstock.log.records import Records, TopicPartition
from penstock.streams.dead_letters import (
    DEAD_SUFFIX,
    MADE,
    REPLAYED_FROM,
    DeadLetter,
    dead_topic,
    letters_of,
    source_topic,
)
from penstock.streams.frame_records import FROM

__all__ = ["LetterBox", "LetterSummary", "StoredLetter"]

PAGE_RECORDS = 500
PAGE_BYTES = 8 * 1024 * 1024
"""Of letters that are replayed in one transaction, with at least one."""
NOTE = "penstock-replayed"
"""The header of a note: its value has the offsets of the letters, of its own partition, that were replayed."""
IDENTITY = "penstock-dlq"
"""Who replays, of whom there is one at a time: a second one fences the first."""


@dataclass(frozen=True, kw_only=True)
class StoredLetter:
    """A letter and where in the dead-letter topic it is."""

    place: TopicPartition
    offset: int
    letter: DeadLetter
    replayed: bool

    @property
    def name(self) -> str:
        """As it is asked for: partition and offset."""
        return f"{self.place.partition}/{self.offset}"

    @property
    def replayable(self) -> bool:
        """Whether its topic has had such a record: nothing somebody else wrote, no row that a stage made."""
        return self.letter.offset >= 0 and MADE not in self.letter.headers


@dataclass(frozen=True, kw_only=True)
class LetterSummary:
    """How many letters a topic has for one reason, how many of them were replayed, and the last one's time."""

    topic: str
    reason: str
    letters: int
    replayed: int
    last_ms: int


class LetterBox:
    """Over a whole log. Topics are named by where the events came from."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._admin: Admin = log.admin

    def topics(self) -> tuple[str, ...]:
        """Those that have dead letters."""
        return tuple(
            sorted(
                source_topic(each.spec.name)
                for each in self._admin.topics()
                if _is_dead(each.spec.name) and any(map(lt, each.begins, each.ends))
            )
        )

    def summaries(self, topic: str) -> list[LetterSummary]:
        """By reason, the most frequent first. Raises `NotFound` for a topic without dead letters."""
        counts: Counter[str] = Counter()
        replayed: Counter[str] = Counter()
        last_ms: dict[str, int] = {}
        for stored in self.letters(topic):
            reason = stored.letter.reason
            counts[reason] += 1
            replayed[reason] += stored.replayed
            last_ms[reason] = max(last_ms.get(reason, 0), stored.letter.written_ms)
        return [
            LetterSummary(
                topic=source_topic(topic),
                reason=reason,
                letters=count,
                replayed=replayed[reason],
                last_ms=last_ms[reason],
            )
            for reason, count in counts.most_common()
        ]

    def letters(self, topic: str) -> Iterator[StoredLetter]:
        """All that are there now, partition by partition, oldest first. Raises `NotFound`."""
        info = self._dead(topic)
        for partition, (begin, end) in enumerate(zip(info.begins, info.ends, strict=True)):
            place = TopicPartition(info.spec.name, partition)
            notes = self._notes(place, begin, end)
            for offset, letter in self._read(place, begin, end):
                if NOTE not in letter.headers:
                    yield StoredLetter(place=place, offset=offset, letter=letter, replayed=offset in notes)

    def letter(self, topic: str, partition: int, offset: int) -> StoredLetter:
        """The one at that place. Raises `NotFound`."""
        info = self._dead(topic)
        if 0 <= partition < len(info.ends) and info.begins[partition] <= offset < info.ends[partition]:
            place = TopicPartition(info.spec.name, partition)
            for found, letter in self._read(place, offset, offset + 1):
                if found == offset and NOTE not in letter.headers:
                    notes = self._notes(place, offset, info.ends[partition])
                    return StoredLetter(place=place, offset=offset, letter=letter, replayed=offset in notes)
        raise NotFound(
            f"topic {source_topic(topic)!r} has no dead letter at {partition}/{offset}",
            hint=f"`penstock dlq list {source_topic(topic)}` shows those that there are",
        )

    def replay(
        self,
        topic: str,
        wanted: Callable[[StoredLetter], bool],
        values: Callable[[], Iterator[bytes]] | None = None,
    ) -> int:
        """Appends the events of the wanted letters that can be to the partitions that they came from, and says
        how many.

        `values` gives what is to be appended instead of each event's own bytes, in the order of the letters;
        letters beyond them stay. A partition's letters keep their order. Raises `InvalidInput` for a value in
        place of a frame between stages, which only Penstock writes.

        Raises `Fenced` where another replay began meanwhile, `NotFound` for a partition that is there no more:
        what was committed before stands.
        """
        producer = self._log.transactional(IDENTITY)
        try:
            # Read after that: an earlier replay has been committed, which is seen, or never will be.
            given = None if values is None else values()
            count = 0
            page: list[StoredLetter] = []
            size_bytes = 0
            for stored in self.letters(topic):
                if not (stored.replayable and wanted(stored)):
                    continue
                value = stored.letter.value if given is None else next(given, None)
                if value is None:
                    break  # letters that came meanwhile, and that nobody has mended
                if given is not None and FROM in stored.letter.headers:
                    raise InvalidInput(
                        f"{stored.name} is a frame between two stages, and cannot be mended",
                        hint="replay it as it is, once what it failed on is mended",
                    )
                stored = replace(stored, letter=replace(stored.letter, value=value))  # noqa: PLW2901 - mended
                page.append(stored)
                size_bytes += len(value)
                if len(page) == PAGE_RECORDS or size_bytes >= PAGE_BYTES:
                    count += self._send(producer.begin(), page)
                    page, size_bytes = [], 0
            return count + (self._send(producer.begin(), page) if page else 0)
        finally:
            producer.close()

    def _send(self, transaction: Transaction, page: Sequence[StoredLetter]) -> int:
        try:
            for target in dict.fromkeys(stored.letter.source for stored in page):
                transaction.append(target, _events([each for each in page if each.letter.source == target]))
            for place in dict.fromkeys(stored.place for stored in page):
                transaction.append(place, _note([each for each in page if each.place == place]))
        except BaseException:
            transaction.abort()
            raise
        transaction.commit()
        return len(page)

    def _dead(self, topic: str) -> TopicInfo:
        name = dead_topic(source_topic(topic))
        for info in self._admin.topics():
            if info.spec.name == name:
                return info
        known = ", ".join(self.topics())
        raise NotFound(
            f"topic {source_topic(topic)!r} has no dead letters",
            hint=f"these have: {known}" if known else "no topic of this log has any",
        )

    def _read(self, place: TopicPartition, begin: int, end: int) -> Iterator[tuple[int, DeadLetter]]:
        while begin < end:
            fetched = self._admin.read(place, begin, records_max=min(PAGE_RECORDS, end - begin))
            for offset, letter in zip(fetched.offsets.tolist(), letters_of(fetched), strict=True):
                if offset < end:
                    yield offset, letter
            if fetched.next_offset <= begin:
                return
            begin = fetched.next_offset

    def _notes(self, place: TopicPartition, begin: int, end: int) -> set[int]:
        """The offsets that were replayed."""
        found: set[int] = set()
        for _, letter in self._read(place, begin, end):
            if NOTE in letter.headers:
                try:
                    found.update(msgspec.json.decode(letter.value, type=list[int]))
                except msgspec.MsgspecError:
                    continue  # whoever wrote that, it was not written here
        return found


def _is_dead(name: str) -> bool:
    return name.endswith(DEAD_SUFFIX) and name != DEAD_SUFFIX


def _events(stored: Sequence[StoredLetter]) -> Records:
    return Records(
        values=[each.letter.value for each in stored],
        times_ms=np.array([each.letter.time_ms for each in stored], dtype=np.int64),
        keys=[each.letter.key for each in stored],
        headers=[
            {**each.letter.headers, REPLAYED_FROM: f"{each.place.topic}/{each.name}".encode()}
            for each in stored
        ],
    )


def _note(stored: Sequence[StoredLetter]) -> Records:
    return Records(
        values=[msgspec.json.encode([each.offset for each in stored])],
        times_ms=np.array([max(each.letter.written_ms for each in stored)], dtype=np.int64),
        headers=[{NOTE: b"1"}],
    )
