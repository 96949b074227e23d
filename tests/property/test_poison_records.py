"""Workers that are brought down by records, and by others: the records at fault become dead letters, each of
the others comes out once, in order.
"""

import bisect
from dataclasses import dataclass, field

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from penstock.log.records import Fetched, Records, TopicPartition
from penstock.streams.suspicion import Cause, Suspect, after_end, pieces, suspect_of

SOURCE = TopicPartition("events", 0)
CRASHED = Cause("crashed", "Aborted", told=True)
SILENT = Cause("crashed", "", told=False)
COUNT_MAX = 300


class Ended(Exception):
    """The process is no more."""


@dataclass
class Partition:
    """What is durable: how far it is committed, what came out, who is suspected, and the last note."""

    offsets: list[int]
    culprits: dict[int, Cause]
    kills: list[int]
    """At which steps of all that is done somebody kills the process."""
    position: int = 0
    out: list[int] = field(default_factory=list)
    dead: list[int] = field(default_factory=list)
    suspect: Suspect | None = None
    note: Suspect | None = None
    cause: Cause = SILENT
    steps: int = 0
    ends: int = 0
    struck: set[int] = field(default_factory=set)
    """Single records at work when somebody killed the process: not again, or they would be condemned."""

    def fetch(self, rows: int) -> Fetched:
        begin = bisect.bisect_left(self.offsets, self.position)
        offsets = np.array(self.offsets[begin : begin + rows], dtype=np.int64)
        records = Records(values=[str(offset).encode() for offset in offsets.tolist()], times_ms=offsets)
        end = begin + len(offsets)
        follows = self.offsets[end] if end < len(self.offsets) else self.offsets[-1] + 5
        return Fetched(source=SOURCE, offsets=offsets, records=records, next_offset=follows)

    @property
    def done(self) -> bool:
        return self.position > self.offsets[-1]

    def killed_here(self) -> None:
        self.steps += 1
        if self.steps not in self.kills:
            return
        if self.note is not None and self.note.count == 1:
            if self.note.begin in self.struck:
                return
            self.struck.add(self.note.begin)
        self.cause = SILENT
        raise Ended

    def process_once(self, sizes: list[int]) -> None:
        """One life of a worker. What it has in memory alone is gone after it."""
        if self.note is not None:
            if self.note.end > self.position:
                self.suspect = after_end(self.suspect, self.note, self.cause)
            self.note = None
        turn = 0
        while not self.done:
            fetched = self.fetch(sizes[turn % len(sizes)])
            turn += 1
            piece, found = next(pieces(fetched, self.suspect)) if self.suspect else (fetched, False)
            offsets = piece.offsets.tolist()
            if not found:
                self.note = suspect_of(piece, reason="", detail="")
                self.killed_here()
                for offset in offsets:
                    if offset in self.culprits:
                        self.cause = self.culprits[offset]
                        raise Ended
                self.note = None
            self.killed_here()
            (self.dead if found else self.out).extend(offsets)
            self.position = piece.next_offset
            if self.suspect is not None and self.position >= self.suspect.end:
                self.suspect = None
            self.killed_here()

    def run(self, sizes: list[int]) -> None:
        while not self.done:
            try:
                self.process_once(sizes)
            except Ended:
                self.ends += 1
                assert self.ends < 2000, "it is never found"


@given(data=st.data(), sizes=st.lists(st.integers(1, COUNT_MAX), min_size=1, max_size=4))
def test_those_at_fault_are_set_aside_and_all_others_come_out_once(
    data: st.DataObject, sizes: list[int]
) -> None:
    gaps = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=COUNT_MAX))
    offsets = np.cumsum(gaps).tolist()
    causes = st.sampled_from([CRASHED, SILENT])
    culprits = data.draw(st.dictionaries(st.sampled_from(offsets), causes, max_size=5))
    kills = data.draw(st.lists(st.integers(1, 200), max_size=20, unique=True))
    partition = Partition(offsets=offsets, culprits=culprits, kills=kills)
    partition.run(sizes)
    assert partition.dead == sorted(culprits)
    assert partition.out == [offset for offset in offsets if offset not in culprits]


@given(
    count=st.integers(1, 5000),
    culprits=st.sets(st.integers(0, 5000), min_size=1, max_size=4),
    size=st.integers(1, 5000),
)
def test_attempts_are_bounded(count: int, culprits: set[int], size: int) -> None:
    """One on all of them, one for each level of parts, and one or two more, of processes that can tell."""
    causes = dict.fromkeys((each % count for each in culprits), CRASHED)
    partition = Partition(offsets=list(range(count)), culprits=causes, kills=[])
    partition.run([size])
    assert partition.dead == sorted(causes)
    assert partition.ends <= 5 * len(causes)
