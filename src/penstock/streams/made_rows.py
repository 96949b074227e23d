"""Which of the rows that a stage made itself a function of the user hangs on: closed windows, results of joins.

No record is at fault then. The rows at work when the process had to end are kept by their contents; in the next
process the function gets half of them at a time, until the one is found. The same rows may come with others by
then: real time closes windows, too.
"""

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import replace

import polars as pl

from penstock.log.records import TopicPartition
from penstock.streams.encoding import encoder_of
from penstock.streams.isolating import FailedRow, Transformed
from penstock.streams.operator import OFFSET, TIME
from penstock.streams.reasons import Reason
from penstock.streams.transforming import Transform
from penstock.streams.watchdog import AccusedRows, SuspectFolder, Watchdog

__all__ = ["MadeRows", "watched"]


class MadeRows:
    """Of one partition: applies transforms to such rows, watched."""

    def __init__(self, source: TopicPartition, suspects: SuspectFolder, watchdog: Watchdog) -> None:
        self._source = source
        self._suspects = suspects
        self._watchdog = watchdog
        self._accused = suspects.find_rows(source)
        self._met = False

    def apply(self, step: str, transform: Transform, frame: pl.DataFrame) -> Transformed:
        """`step` is the transform's name. A row that it is known to hang on is set aside."""
        if self._accused is None or frame.is_empty():
            return self._watched(step, transform, frame)
        return self._in_parts(self._accused, step, transform, frame)

    def committed(self) -> None:
        """What they came to is durable: who was accused is done with."""
        if self._accused is not None and self._met:
            self._suspects.clear_rows(self._source)
            self._accused, self._met = None, False

    def _in_parts(
        self, accused: AccusedRows, step: str, transform: Transform, frame: pl.DataFrame
    ) -> Transformed:
        """Runs of rows that nothing is known of, and parts of those that it hung on, in their order."""
        digests = _digests(step, frame)
        culprits = {*accused.found, *(accused.rows if len(accused.rows) == 1 else ())}
        half = max(1, len(accused.rows) // 2)
        places = {digest: 1 + place // half for place, digest in enumerate(accused.rows)}
        groups = [-1 if digest in culprits else places.get(digest, 0) for digest in digests]
        self._met = self._met or any(groups)
        parts: list[pl.DataFrame] = []
        failed: list[FailedRow] = []
        start = 0
        for group, run in itertools.groupby(groups):
            count = len(list(run))
            piece = frame.slice(start, count)
            if group < 0:
                failed += _hung(piece, start, accused.detail)
            else:
                done = self._watched(step, transform, piece)
                parts.append(done.frame)
                failed += [replace(row, row=row.row + start) for row in done.failed]
            start += count
        joined = pl.concat(parts) if parts else transform.apply(frame.clear()).frame
        return Transformed(frame=joined, failed=tuple(failed))

    def _watched(self, step: str, transform: Transform, frame: pl.DataFrame) -> Transformed:
        found = self._accused
        known = () if found is None else (*found.found, *(found.rows if len(found.rows) == 1 else ()))

        def accuse(detail: str) -> AccusedRows:
            return AccusedRows(
                topic=self._source.topic,
                partition=self._source.partition,
                step=step,
                rows=tuple(dict.fromkeys(_digests(step, frame))),
                found=known,
                detail=detail,
            )

        before = self._watchdog.begin_rows(accuse)
        try:
            return transform.apply(frame)
        finally:
            self._watchdog.end_rows(before)


def watched(rows: MadeRows | None, step: str, transform: Transform, frame: pl.DataFrame) -> Transformed:
    """What the transform makes of it, looked after by whoever there is."""
    return transform.apply(frame) if rows is None else rows.apply(step, transform, frame)


def _hung(piece: pl.DataFrame, start: int, detail: str) -> list[FailedRow]:
    places = piece.select(OFFSET, TIME).iter_rows()
    return [
        FailedRow(row=row, offset=offset, time_ms=time_ms, reason=Reason.HUNG, detail=detail)
        for row, (offset, time_ms) in enumerate(places, start)
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
