"""Who is to blame when a worker ends, or fails, in the midst of records: narrowed down from end to end.

A worker that ends says nothing of why: a record can have brought it down, or somebody has killed it, and the
record is a good one. So an end only makes suspects of what was at work. These are processed in parts, each
committed by itself, of which the one at work at the next end is suspected next; and one record is condemned
only once it has brought down workers again, alone and suspected: twice where they could still tell that it was
no other process that ended them, four times where they could not. A part that gets through is free.

With `PARTS` parts it takes three ends to get from 50,000 records to one.
"""

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from penstock.log.records import Fetched, Records, TopicPartition

__all__ = [
    "CONDEMNED_AT",
    "PARTS",
    "UNCLEAR_MAX",
    "AccusedRows",
    "Cause",
    "Suspect",
    "after_end",
    "apart",
    "cut",
    "one_by_one",
    "pieces",
    "rows_after_end",
    "suspect_of",
    "withheld_after",
]

PARTS = 32
"""Into about so many suspects are cut: each part costs a commit, each level another end of the process."""
CONDEMNED_AT = 4
"""Points of a single suspect: one for each end with it at work, two where the process could say why."""
UNCLEAR_MAX = 3
"""Ends in a row, after all functions, of which nobody is suspected as it may have been records or made rows."""


class Cause(NamedTuple):
    """Why a process ended. `told` says that it is known from itself: it was ended by what it did."""

    reason: str
    detail: str
    told: bool

    @property
    def points(self) -> int:
        return 2 if self.told else 1


class Suspect(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Records of a partition, from offset `begin` to before `end`, `count` of them, with one of which at work a
    process ended.

    `sure`: it was measured by a process that could still tell (it raised, or took too long), so that one alone
    is the culprit at once. Otherwise `alone` are
    the points of a single one that was suspected before.
    """

    topic: str
    partition: int
    begin: int
    end: int
    count: int
    reason: str = "hung"
    detail: str = ""
    sure: bool = False
    ends: int = 0
    """Processes that have ended since it was first suspected."""
    alone: int = 0

    @property
    def found(self) -> bool:
        """Whether it is a single record, which is then the culprit."""
        return self.count == 1 and (self.sure or self.alone >= CONDEMNED_AT)

    def __str__(self) -> str:
        records = "record" if self.count == 1 else f"{self.count} records"
        verb = "condemned" if self.found else "suspected"
        return f"{records} from offset {self.begin} {verb}: {self.reason}: {self.detail}"


class AccusedRows(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Rows that a stage made itself, by digests of their contents: with one of `rows` at work in that step a
    process ended; `found` are those that it is known to end with from before, with reason and detail.

    Without `rows` nobody knows which: they are among the next `count`, or come of records before offset
    `until`.
    """

    topic: str
    partition: int
    step: str
    rows: tuple[str, ...] = ()
    found: Mapping[str, tuple[str, str]] = msgspec.field(default_factory=dict)
    reason: str = "hung"
    detail: str = ""
    sure: bool = False
    ends: int = 0
    alone: int = 0
    count: int = 0
    until: int = -1
    plan: str = ""
    """In short, how the stage was planned that made them."""
    withheld: bool = False
    """Nobody knows which, nor of which step: no function gets any until what comes next is committed."""

    @property
    def culprits(self) -> Mapping[str, tuple[str, str]]:
        """The rows that are to be set aside, with reason and detail."""
        if len(self.rows) == 1 and (self.sure or self.alone >= CONDEMNED_AT):
            return {**self.found, self.rows[0]: (self.reason, self.detail)}
        return self.found

    def __str__(self) -> str:
        if self.withheld:
            return f"rows of windows and joins set aside once: {self.reason}: {self.detail}"
        rows = f"{len(self.rows)} of them" if self.rows else "which is not known yet"
        return f"rows of {self.step!r} suspected, {rows}: {self.reason}: {self.detail}"


def suspect_of(fetched: Fetched, *, reason: str, detail: str) -> Suspect:
    """Of records of which the process itself can tell."""
    return Suspect(
        topic=fetched.source.topic,
        partition=fetched.source.partition,
        begin=int(fetched.offsets[0]),
        end=fetched.next_offset,
        count=len(fetched.records),
        reason=reason,
        detail=detail,
        sure=True,
    )


def after_end(before: Suspect | None, at: Suspect, cause: Cause) -> Suspect:
    """Who is suspected once a process has ended with `at` at work, where `before` were suspected already.

    Parts of suspects never reach beyond them, so where one begins says whether it is among them.
    """
    at = msgspec.structs.replace(at, reason=cause.reason, detail=cause.detail, sure=False, ends=1)
    if before is None:
        return at
    ends = before.ends + 1
    among = before.begin <= at.begin < before.end
    if among and at.count > before.count:
        # Of one who was at them before they were narrowed down.
        return msgspec.structs.replace(before, ends=ends)
    alone = before.alone + cause.points if among and at.count == 1 else 0
    return msgspec.structs.replace(at, ends=ends, alone=alone)


def rows_after_end(before: AccusedRows | None, at: AccusedRows, cause: Cause) -> AccusedRows:
    """The same of rows that are no records."""
    found: Mapping[str, tuple[str, str]] = {} if before is None else before.culprits
    ends = 1 if before is None else before.ends + 1
    among = before is not None and bool(at.rows) and set(at.rows) <= set(before.rows)
    alone = before.alone + cause.points if before is not None and among and len(at.rows) == 1 else 0
    return msgspec.structs.replace(
        at, found=found, reason=cause.reason, detail=cause.detail, sure=False, ends=ends, alone=alone
    )


def withheld_after(
    before: AccusedRows | None, last: AccusedRows, cause: Cause, *, ends: int = 0, until: int = -1
) -> AccusedRows:
    """All made rows of the partition that `last` are of, where a process has ended after all its functions with
    no records at work, or with one alone, which is before offset `until`.
    """
    return AccusedRows(
        topic=last.topic,
        partition=last.partition,
        step=last.step,
        found=before.culprits if before is not None and before.plan == last.plan else {},
        reason=cause.reason,
        detail=cause.detail,
        ends=ends,
        until=until,
        plan=last.plan,
        withheld=True,
    )


def apart(
    fetched: Sequence[Fetched], suspected: Collection[TopicPartition], turn: int
) -> tuple[Sequence[Fetched], Sequence[Fetched]]:
    """What is worked on in this turn, and what is left for another. A partition with suspects goes alone, so
    that the others take no part of the blame; they go in turn with it, so that they do not wait for it.
    """
    mine = [each for each in fetched if each.source in suspected and len(each.records)]
    if not mine or len(fetched) == 1:
        return fetched, ()
    others = [each for each in fetched if each.source not in suspected]
    chosen = others if others and turn % 2 else [mine[turn // 2 % len(mine)]]
    sources = {each.source for each in chosen}
    return chosen, [each for each in fetched if each.source not in sources and len(each.records)]


def one_by_one(fetched: Sequence[Fetched], turn: int) -> tuple[Sequence[Fetched], Sequence[Fetched]]:
    """The same where it is not known which partition is suspect, or whether it is time that goes on: each goes
    alone, and in every other turn none of them.
    """
    with_records = [each for each in fetched if len(each.records)]
    if not with_records:
        return fetched, ()
    chosen = [] if turn % 2 else [with_records[turn // 2 % len(with_records)]]
    sources = {each.source for each in chosen}
    return chosen, [each for each in with_records if each.source not in sources]


def cut(fetched: Fetched, begin: int, end: int) -> Fetched:
    """The records from place `begin` to before `end`."""
    records = fetched.records
    last = end == len(records)
    return Fetched(
        source=fetched.source,
        offsets=fetched.offsets[begin:end],
        records=Records(
            values=records.values[begin:end],
            times_ms=records.times_ms[begin:end],
            keys=records.keys[begin:end] if records.keys is not None else None,
            headers=records.headers[begin:end] if records.headers is not None else None,
        ),
        next_offset=fetched.next_offset if last else int(fetched.offsets[end]),
    )


def pieces(fetched: Fetched, suspect: Suspect) -> Iterator[tuple[Fetched, bool]]:
    """The records in parts, of which those that are suspect are much smaller than they were together. True with
    the one that is the culprit.
    """
    offsets = fetched.offsets
    begin = int(offsets.searchsorted(suspect.begin))
    end = int(offsets.searchsorted(suspect.end))
    step = max(1, suspect.count // PARTS)
    bounds = sorted({0, *range(begin, end, step), end, len(offsets)})
    for at, until in itertools.pairwise(bounds):
        yield cut(fetched, at, until), suspect.found and at == begin and begin < end
