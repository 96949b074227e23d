"""Which of the rows that a stage made itself a function of the user hangs on, or ends the process with: closed
windows, results of joins.

No record is at fault then. The rows at work when the process ended are kept by their contents; in the next
process the function gets parts of them, until the one is found. The same rows may come with others by then:
real time closes windows, too.

To know all rows by their contents costs more than most functions do. So an end that nobody saw only tells the
step; in the next process its rows go in parts that are noted.
"""

import hashlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace

import msgspec
import polars as pl

from penstock.log.records import TopicPartition
from penstock.streams.encoding import encoder_of
from penstock.streams.isolating import FailedRow, Transformed
from penstock.streams.operator import OFFSET, TIME, Moment
from penstock.streams.outputs import NOTHING, Outlet, Put
from penstock.streams.reasons import Reason
from penstock.streams.suspect_folder import SuspectFolder
from penstock.streams.suspicion import PARTS, AccusedRows
from penstock.streams.transforming import Transform
from penstock.streams.watchdog import Watchdog

__all__ = ["MadeRows", "put_watched", "watched"]

OTHERS_MAX = 100_000
"""After so many other rows those that are accused are not waited for any more: what made them was changed, or
made others this time. To be careful costs some microseconds a row.
"""
Apply = Callable[[pl.DataFrame], Transformed]


class MadeRows:
    """Of one partition: applies functions to such rows, watched."""

    def __init__(
        self,
        source: TopicPartition,
        suspects: SuspectFolder,
        watchdog: Watchdog,
        accused: AccusedRows | None,
        plan: str = "",
        ends: int = 0,
    ) -> None:
        """`plan` says in short how the stage is planned: rows of another plan never come again. `ends`: of
        processes, of which nobody is suspected.
        """
        if accused is not None and accused.plan != plan:
            suspects.clear_rows(source)
            accused = None
        self._source = source
        self._plan = plan
        self._suspects = suspects
        self._watchdog = watchdog
        self._accused = accused
        self._ends = ends
        self._given = False
        """Whether a function has had any since the last commit."""
        self._met = False
        self._passed = 0
        """Rows of the step that is accused, where nobody knows which."""
        self._others = 0
        """Rows, none of them accused, that were given to functions while one was careful."""

    @property
    def accused(self) -> AccusedRows | None:
        """With what it is careful."""
        return self._accused

    @property
    def doubted(self) -> bool:
        """Whether processes have ended after functions had some, and nobody is suspected yet."""
        return self._ends > 0

    def apply(self, step: str, apply: Apply, frame: pl.DataFrame) -> Transformed:
        """`step` is what the function is named in its stage. A row that ends it is set aside."""
        accused = self._accused
        if accused is None or frame.is_empty():
            return self._watched(step, apply, frame)
        self._others += frame.height
        if accused.withheld:
            self._met = True
            failed = _set_aside(frame, 0, [(accused.reason, accused.detail)] * frame.height)
            return Transformed(frame=apply(frame.clear()).frame, failed=tuple(failed))
        if accused.rows or accused.step != step:
            return self._in_parts(accused, step, apply, frame)
        self._passed += frame.height
        return self._in_parts(accused, step, apply, frame, size=-(-frame.height // PARTS))

    def committed(self, position: int) -> int:
        """What they came to is durable, up to that offset: where it was they who were accused, that is done
        with. How many ends of a process that took.
        """
        if self._given and self._ends:
            self._suspects.clear_ends(self._source)
            self._ends = 0
        self._given = False
        accused = self._accused
        if accused is None:
            return 0
        until = accused.until <= position
        if accused.withheld:
            done = self._met or (until and accused.until >= 0)
        else:
            done = self._met if accused.rows else until and self._passed >= accused.count
        if not done and not (until and self._others >= OTHERS_MAX):
            return 0
        self._suspects.clear_rows(self._source)
        self._accused, self._met, self._passed, self._others = None, False, 0, 0
        return accused.ends

    def _in_parts(
        self, accused: AccusedRows, step: str, apply: Apply, frame: pl.DataFrame, size: int = 0
    ) -> Transformed:
        """Runs of rows that nothing is known of (of `size` at most, if it is given), and parts of those that it
        ended with, in their order.
        """
        digests = _digests(step, frame)
        culprits = accused.culprits
        part = max(1, len(accused.rows) // PARTS)
        places = {digest: 1 + place // part for place, digest in enumerate(accused.rows)}
        unknown = [-1 - row // size if size else 0 for row in range(frame.height)]
        groups = [
            None if digest in culprits else places.get(digest, unknown[row])
            for row, digest in enumerate(digests)
        ]
        self._met = self._met or any(group is None or group > 0 for group in groups)
        parts: list[pl.DataFrame] = []
        failed: list[FailedRow] = []
        start = 0
        for group, run in itertools.groupby(groups):
            count = len(list(run))
            piece = frame.slice(start, count)
            if group is None:
                failed += _set_aside(piece, start, [culprits[each] for each in digests[start : start + count]])
            else:
                done = self._watched(step, apply, piece, digests[start : start + count])
                parts.append(done.frame)
                failed += [replace(row, row=row.row + start) for row in done.failed]
            start += count
        joined = pl.concat(parts) if parts else apply(frame.clear()).frame
        return Transformed(frame=joined, failed=tuple(failed))

    def _watched(
        self, step: str, apply: Apply, frame: pl.DataFrame, digests: Sequence[str] = ()
    ) -> Transformed:
        """`digests` are known where one is careful."""
        records = self._watchdog.suspect
        at = AccusedRows(
            topic=self._source.topic,
            partition=self._source.partition,
            step=step,
            rows=tuple(dict.fromkeys(digests)),
            count=frame.height,
            until=records.end if records is not None else -1,
            plan=self._plan,
        )

        def accuse(detail: str) -> AccusedRows:
            before = self._accused
            return msgspec.structs.replace(
                at,
                rows=at.rows or tuple(dict.fromkeys(_digests(step, frame))),
                found=before.culprits if before is not None else {},
                ends=1 + (before.ends if before is not None else 0),
                detail=detail,
                sure=True,
            )

        self._given = self._given or bool(frame.height)
        with self._watchdog.rows(accuse, at):
            return apply(frame)


def watched(rows: MadeRows | None, step: str, transform: Transform, frame: pl.DataFrame) -> Transformed:
    """What the transform makes of it, looked after by whoever there is."""
    return transform.apply(frame) if rows is None else rows.apply(step, transform.apply, frame)


def put_watched(
    rows: MadeRows | None, output: str, outlet: Outlet, frame: pl.DataFrame, moment: Moment, idle: bool
) -> Put:
    """What the outlet makes of it; where that calls a function, looked after likewise."""
    if rows is None or not outlet.calls_function:
        return outlet.put(frame, moment, idle)

    def apply(given: pl.DataFrame) -> Transformed:
        return Transformed(frame=given.clear(), failed=tuple(outlet.put(given, moment, idle).failed))

    failed = rows.apply(f"into {output}", apply, frame).failed
    return Put(failed=failed) if failed else NOTHING


def _set_aside(piece: pl.DataFrame, start: int, why: Sequence[tuple[str, str]]) -> list[FailedRow]:
    """All rows of the piece, which begins at row `start` of its frame, each with its reason and detail."""
    places = piece.select(OFFSET, TIME).iter_rows()
    return [
        FailedRow(row=row, offset=offset, time_ms=time_ms, reason=Reason(reason), detail=detail)
        for row, ((offset, time_ms), (reason, detail)) in enumerate(zip(places, why, strict=True), start)
    ]


def _digests(step: str, frame: pl.DataFrame) -> Sequence[str]:
    """The rows by what is in them, whichever record it was that made them."""
    begun = hashlib.blake2b(step.encode(), digest_size=8)
    digests = []
    for value in encoder_of("json").encode(frame):
        digest = begun.copy()
        digest.update(value)
        digests.append(digest.hexdigest())
    return digests
