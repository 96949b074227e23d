"""What to do about a function of the user that never returns: end the process, and remember what it was at.

On the next start the suspect records are processed in ever smaller batches, until the one is found on which it
hangs. That one becomes a dead letter. A function that a stream is fed from is called again, after a pause.

Two look, for a function can hold the interpreter's lock: a thread, which measures well and knows what it ends
for; and behind it a timer of the system that needs no lock, which the thread puts off as long as it can.
"""

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import msgspec

from penstock.core.clock import Clock
from penstock.core.errors import PenstockError
from penstock.log.records import Fetched, TopicPartition
from penstock.streams.suspect_folder import SuspectFolder
from penstock.streams.suspicion import AccusedRows, Suspect, suspect_of

__all__ = ["HUNG_STATUS", "Accuse", "Note", "Watchdog"]

log = logging.getLogger(__name__)

HUNG_STATUS = 86
LOOK_EVERY_S = 0.25
STOPPED_S_MIN = 1.0
"""Between two looks: who comes so much too late was stopped, and so was all that it watches."""
EXPECTED_MARGIN_S = 1.0
"""The timer leaves the thread so much time to be first."""

Accuse = Callable[[str], AccusedRows]
"""Tells which rows are at work, with that as the detail."""

_Watched = tuple[float, Suspect | Accuse]


class Note(Protocol):
    """Where it stands what is being worked on, for whoever comes after an end that nobody saw."""

    def records(self, suspect: Suspect) -> None: ...

    def returned(self) -> None: ...

    def settled(self) -> None: ...

    def rows(self, accused: AccusedRows) -> None: ...

    def rows_returned(self) -> None: ...


class Watchdog:
    """Ends the process when what it was told to watch takes longer than `timeout_s`.

    A thread of its own looks; `begin` and `end` are called by the one that works. `expect` ends the process by
    itself where it is not called again within the seconds that it is given; 0 is never.
    """

    def __init__(
        self,
        suspects: SuspectFolder,
        timeout_s: float,
        clock: Clock,
        end_process: Callable[[int], object] = os._exit,
        expect: Callable[[float], object] | None = None,
    ) -> None:
        self.note: Note | None = None
        self._suspects = suspects
        self._timeout_s = timeout_s
        self._clock = clock
        self._end_process = end_process
        self._expect = expect
        self._expected = expect is None
        """Whether the timer runs: one that runs is not put off by each batch, but by looks alone."""
        self._expected_until_s = float("inf")
        self._watched: _Watched | None = None
        self._stopped = threading.Event()
        self._excused_s = 0.0

    def start(self) -> None:
        threading.Thread(target=self._look_forever, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()
        if self._expect is not None:
            self._expect(0)

    @property
    def suspect(self) -> Suspect | None:
        """What is being worked on."""
        watched = self._watched[1] if self._watched is not None else None
        return watched if isinstance(watched, Suspect) else None

    def begin(self, fetched: Fetched) -> None:
        """These records are being worked on."""
        suspect = suspect_of(fetched, reason="hung", detail=self._detail)
        if self.note is not None:
            self.note.records(suspect)
        self._watched = (self._now_s(), suspect)
        if not self._expected:
            self._put_off()

    def end(self) -> None:
        """They are done with, but for what is to come of them."""
        self._watched = None
        if self.note is not None:
            self.note.returned()

    @contextmanager
    def until_settled(self) -> Iterator[None]:
        """What is begun within it is committed at its end, or given up by an error that is known.

        Of any other nobody knows the cause. It ends the engine, and whoever comes next finds what was at work.
        """
        try:
            yield
        except PenstockError:
            self.end()
            self.settled()
            raise
        self.settled()

    def settled(self) -> None:
        """What came of all that was begun is committed, or given up."""
        if self.note is not None:
            self.note.settled()

    def begin_rows(self, accuse: Accuse, at: AccusedRows) -> _Watched | None:
        """A function works on rows that a stage made itself, maybe amid records, which are not at fault for it.
        `at` is as much of them as is known without effort. What to give to `end_rows`.
        """
        if self.note is not None:
            self.note.rows(at)
        before, now_s = self._watched, self._now_s()
        self._watched = (now_s, accuse)
        if not self._expected:
            self._put_off()
        return (before[0] - now_s, before[1]) if before is not None else None

    def end_rows(self, before: _Watched | None) -> None:
        """It has returned; the time that it took does not count for the records."""
        self._watched = (before[0] + self._now_s(), before[1]) if before is not None else None
        if self.note is not None:
            self.note.rows_returned()

    @contextmanager
    def rows(self, accuse: Accuse, at: AccusedRows) -> Iterator[None]:
        """A function works on them within it. What it raises is an error like others; only what ends the engine
        (KeyboardInterrupt) leaves them in the note, for whoever comes next.
        """
        before = self.begin_rows(accuse, at)
        try:
            yield
        except KeyboardInterrupt:
            raise
        except BaseException:
            self.end_rows(before)
            raise
        self.end_rows(before)

    def look(self) -> None:
        """Ends the process where it hangs."""
        watched = self._watched
        if watched is None or self._now_s() - watched[0] <= self._timeout_s:
            self._look_at_timer()
            return
        try:
            self._keep(watched[1])
        except Exception:
            log.exception("what it hung on could not be kept")
        else:
            if self.note is not None:  # all is said
                self.note.settled()
                self.note.rows_returned()
        self._end_process(HUNG_STATUS)

    def _look_at_timer(self) -> None:
        """Stops it where nothing is at work: what else a worker does may take its time. Whoever begins
        meanwhile sees either that it does not run, or is seen.

        One that has gone off is left alone: its signal is under way to another thread, and some systems would
        take it back now, and others not.
        """
        if self._expect is None or (self._expected and self._clock.monotonic() > self._expected_until_s):
            return
        if self._watched is None and self._expected:
            self._expected = False
            self._expect(0)
        if self._watched is not None:
            self._put_off()

    def _put_off(self) -> None:
        assert self._expect is not None, "there is a timer"
        self._expected = True
        self._expected_until_s = self._clock.monotonic() + self._timeout_s + EXPECTED_MARGIN_S
        self._expect(self._timeout_s + EXPECTED_MARGIN_S)

    def _keep(self, hung: Suspect | Accuse) -> None:
        if isinstance(hung, Suspect):
            log.error(
                "%s/%d, offsets %d to %d: not done within %.0f s; the process ends and tries them in parts",
                *(hung.topic, hung.partition, hung.begin, hung.end - 1, self._timeout_s),
            )
            before = self._suspects.find(TopicPartition(hung.topic, hung.partition))
            ends = 1 + (before.ends if before is not None else 0)
            self._suspects.keep(msgspec.structs.replace(hung, ends=ends))
            return
        accused = hung(self._detail)
        what = f"not done with {len(accused.rows)} rows" if accused.rows else "not done"
        then = "the process ends and tries them in parts" if accused.rows else "the process ends"
        log.error(
            "%s/%d: %r is %s within %.0f s; %s",
            *(accused.topic, accused.partition, accused.step, what, self._timeout_s, then),
        )
        if accused.count:
            self._suspects.keep_rows(accused)

    @property
    def _detail(self) -> str:
        return f"not done within {self._timeout_s:g} s"

    def _now_s(self) -> float:
        """Without the time in which nothing could go on."""
        return self._clock.monotonic() - self._excused_s

    def looked_late(self, late_s: float) -> None:
        """The time in which the whole process stood still is nobody's fault."""
        if late_s >= STOPPED_S_MIN:
            self._excused_s += late_s

    def _look_forever(self) -> None:
        looked_s = self._clock.monotonic()
        while not self._stopped.wait(LOOK_EVERY_S):
            now_s = self._clock.monotonic()
            self.looked_late(now_s - looked_s - LOOK_EVERY_S)
            looked_s = now_s
            self.look()
