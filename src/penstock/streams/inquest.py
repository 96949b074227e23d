"""What a partition's owners before ended of: from the notes that they left, who is suspected now.

A note counts once. What it says is kept, durably, before it goes.
"""

import logging
from dataclasses import dataclass, replace

import msgspec

from penstock.log.records import TopicPartition
from penstock.streams.at_work import Blamed, LeftNote, NoteFolder
from penstock.streams.last_words import understood
from penstock.streams.suspect_folder import SuspectFolder
from penstock.streams.suspicion import (
    CONDEMNED_AT,
    UNCLEAR_MAX,
    AccusedRows,
    Cause,
    Suspect,
    after_end,
    rows_after_end,
    withheld_after,
)

__all__ = ["Findings", "Inquest"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Findings:
    """With what of a partition to be careful. `ends`: how often its owners have ended with nobody suspected."""

    suspect: Suspect | None = None
    rows: AccusedRows | None = None
    ends: int = 0


class Inquest:
    """By the worker `identity`, of the others. A function is given `timeout_s`."""

    def __init__(self, suspects: SuspectFolder, notes: NoteFolder, identity: str, timeout_s: float) -> None:
        self._suspects = suspects
        self._notes = notes
        self._identity = identity
        self._timeout_s = timeout_s

    def hold(self, source: TopicPartition, position: int) -> Findings:
        """On a partition that this worker is given, and that goes on at that offset: what is before it has got
        through.

        Where nothing can be kept, notes stay for whoever comes next.
        """
        found = Findings(
            suspect=self._suspects.find(source),
            rows=self._suspects.find_rows(source),
            ends=self._suspects.ends(source),
        )
        if found.suspect is not None and found.suspect.end <= position:
            self._suspects.clear(source)
            found = replace(found, suspect=None)
        for note in self._notes.left_by_others(self._identity):
            # Who lives has lost the partition, and nothing ended. Once it has, its note tells of it.
            if not note.owner_gone():
                continue
            found = self._concluded(source, position, found, note)
        if found.suspect is not None and found.suspect.found and found.rows is not None and found.rows.withheld:
            # It was the record, then.
            self._suspects.clear_rows(source)
            found = replace(found, rows=None)
        return found

    def _concluded(self, source: TopicPartition, position: int, found: Findings, note: LeftNote) -> Findings:
        blamed = note.about(source)
        now = found
        if blamed is not None and blamed.records is not None and blamed.records.end <= position:
            blamed = None
        if blamed is not None:
            cause = self._cause(note, blamed)
            now = _unclear(found, blamed, cause) if blamed.unclear else _clear(found, blamed, cause)
        try:
            self._keep(source, found, now)
            note.forget(source)
        except OSError as error:
            log.warning("%s: what its worker ended of is not kept: %s", source, error)
        for before, after in ((found.rows, now.rows), (found.suspect, now.suspect)):
            if after is not before:
                log.error("%s: a worker ended with it at work; %s", source, after)
        if (now.rows, now.suspect) == (found.rows, found.suspect) and now.ends != found.ends:
            log.error("%s: a worker ended after all functions, and nobody is suspected yet", source)
        if now != found and note.words:
            log.warning("%s: the last words of that worker:\n%s", source, note.words.rstrip())
        return now

    def _keep(self, source: TopicPartition, found: Findings, now: Findings) -> None:
        if now.rows is not None and now.rows is not found.rows:
            self._suspects.keep_rows(now.rows)
        if now.suspect is not None and now.suspect is not found.suspect:
            self._suspects.keep(now.suspect)
        if now.ends != found.ends:
            self._suspects.keep_ends(source, now.ends)

    def _cause(self, note: LeftNote, blamed: Blamed) -> Cause:
        """Where no function was at work any more, a fatal signal may be of whatever else a worker does."""
        cause = understood(note.words, note.thread, self._timeout_s)
        if blamed.within:
            return cause
        return cause._replace(detail=f"{cause.detail}; its functions had returned", told=False)


def _clear(found: Findings, blamed: Blamed, cause: Cause) -> Findings:
    """It was at work when a process ended."""
    if blamed.rows is not None:
        # A function that was given no rows: none is to blame, and no record either.
        return (
            replace(found, rows=rows_after_end(found.rows, blamed.rows, cause)) if blamed.rows.count else found
        )
    assert blamed.records is not None, "somebody is to blame"
    return replace(found, suspect=after_end(found.suspect, blamed.records, cause))


def _unclear(found: Findings, blamed: Blamed, cause: Cause) -> Findings:
    """Records and rows had been at work, or rows alone, and all functions had returned: one such end says
    nothing, several in a row do.

    It is looked for among the records first, which can be committed in parts. Of one that is left alone the
    made rows are set aside once, without it; if that does not help, it is the record.
    """
    records, last = blamed.records, blamed.rows
    ends = found.ends + 1
    if ends < UNCLEAR_MAX and (records is None or found.suspect is None):
        return replace(found, ends=ends)
    if records is None:
        assert last is not None, "somebody was at work"
        return replace(found, rows=withheld_after(found.rows, last, cause, ends=ends), ends=ends)
    suspect = after_end(found.suspect, records, cause)
    withheld = found.rows is not None and found.rows.withheld
    if not suspect.found or last is None or withheld:
        return replace(found, suspect=suspect, ends=ends)
    suspect = msgspec.structs.replace(suspect, alone=CONDEMNED_AT - 1)
    rows = withheld_after(found.rows, last, cause, until=records.end)
    return replace(found, suspect=suspect, rows=rows, ends=ends)
