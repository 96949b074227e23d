"""What a partition's owners before ended of: from the notes that they left, who is suspected now.

A note counts once. What it says is kept, durably, before it goes.
"""

import logging
from dataclasses import dataclass

from penstock.log.records import TopicPartition
from penstock.streams.at_work import Blamed, LeftNote, NoteFolder
from penstock.streams.last_words import understood
from penstock.streams.suspect_folder import SuspectFolder
from penstock.streams.suspicion import AccusedRows, Cause, Suspect, after_end, rows_after_end

__all__ = ["Findings", "Inquest"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Findings:
    """With what of a partition to be careful."""

    suspect: Suspect | None = None
    rows: AccusedRows | None = None


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
        found = Findings(suspect=self._suspects.find(source), rows=self._suspects.find_rows(source))
        if found.suspect is not None and found.suspect.end <= position:
            self._suspects.clear(source)
            found = Findings(rows=found.rows)
        for note in self._notes.left_by_others(self._identity):
            # Who lives has lost the partition, and nothing ended. Once it has, its note tells of it.
            if not note.owner_gone():
                continue
            found = self._concluded(source, position, found, note)
        return found

    def _concluded(self, source: TopicPartition, position: int, found: Findings, note: LeftNote) -> Findings:
        blamed = note.about(source)
        suspect, rows = found.suspect, found.rows
        try:
            if blamed is not None and blamed.rows is not None and not blamed.rows.count:
                pass  # A function was given no rows: none is to blame, and no record either.
            elif blamed is not None and blamed.rows is not None:
                rows = rows_after_end(rows, blamed.rows, self._cause(note, blamed))
                self._suspects.keep_rows(rows)
            elif blamed is not None and blamed.records is not None and blamed.records.end > position:
                suspect = after_end(suspect, blamed.records, self._cause(note, blamed))
                self._suspects.keep(suspect)
            note.forget(source)
        except OSError as error:
            log.warning("%s: what its worker ended of is not kept: %s", source, error)
        changed = rows if rows is not found.rows else suspect if suspect is not found.suspect else None
        if changed is not None:
            log.error("%s: a worker ended with it at work; %s", source, changed)
            if note.words:
                log.warning("%s: the last words of that worker:\n%s", source, note.words.rstrip())
        return Findings(suspect=suspect, rows=rows)

    def _cause(self, note: LeftNote, blamed: Blamed) -> Cause:
        """Where no function was at work any more, a fatal signal may be of whatever else a worker does."""
        cause = understood(note.words, note.thread, self._timeout_s)
        if blamed.within:
            return cause
        return cause._replace(detail=f"{cause.detail}; its functions had returned", told=False)
