"""What keeps a function of the user from bringing a stream to a stand: who watches it, and what is left behind.

One that raises is seen by whoever calls it. One that never returns, or ends the process, is found out by those
who come after: see `suspicion`.
"""

import logging
import os
import threading
import weakref
from functools import partial
from types import TracebackType
from typing import Self

from penstock.core.clock import Clock
from penstock.core.errors import PenstockError
from penstock.log.records import TopicPartition
from penstock.streams.at_work import AtWork, NoteFolder
from penstock.streams.inquest import Findings, Inquest
from penstock.streams.last_words import LastWords, raised_words
from penstock.streams.suspect_folder import SuspectFolder
from penstock.streams.watchdog import Watchdog
from penstock.streams.worker_config import WorkerConfig

__all__ = ["Containment"]

log = logging.getLogger(__name__)


class Containment:
    """Of one worker. `start` is for the thread that works."""

    def __init__(self, config: WorkerConfig, clock: Clock) -> None:
        self.suspects = SuspectFolder(config.folder / "suspects")
        self._config = config
        self._notes = NoteFolder(config.folder / "notes")
        self._inquest = Inquest(self.suspects, self._notes, config.identity, config.timeout_s)
        self._note: AtWork | None = None
        self._words: LastWords | None = None
        self.watchdog = Watchdog(self.suspects, config.timeout_s, clock, expect=self._expect)

    def start(self) -> None:
        """Where there can be no note, an end in a function is a mere end."""
        identity = self._config.identity
        try:
            if self._config.own_process:
                self._words = LastWords(self._notes.words_path(identity))
            self._note = self.watchdog.note = self._notes.mine(identity, threading.get_ident())
        except OSError as error:
            log.warning("a record that ends this process would not be found: %s", error)
        os.register_at_fork(after_in_child=partial(_forked, weakref.ref(self)))
        self.watchdog.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """An error that is known is nobody's fault."""
        self.stop(None if isinstance(error, PenstockError) else error)

    def stop(self, error: BaseException | None = None) -> None:
        """All is done; or that has ended it, and what was at work is for whoever comes next."""
        self.watchdog.stop()
        self.watchdog.note = None
        words, self._words = self._words, None
        if words is not None:
            words.close()
        note, self._note = self._note, None
        if note is not None and error is None:
            note.close()
        elif note is not None and error is not None:
            self._notes.say(self._config.identity, raised_words(error))
            note.leave()

    def forked(self) -> None:
        """In a child that a function has forked: how it ends is no word of this worker, and that it lives does
        not mean that this worker does.
        """
        self.watchdog.note = None
        if self._words is not None:
            self._words.leave()
        if self._note is not None:
            self._note.leave()
        self._words = self._note = None

    def hold_inquest(self, source: TopicPartition, position: int) -> Findings:
        """With what of a partition to be careful that this worker is given."""
        return self._inquest.hold(source, position)

    def _expect(self, seconds: float) -> None:
        if self._words is not None:
            self._words.expect(seconds)


def _forked(containment: "weakref.ref[Containment]") -> None:
    found = containment()
    if found is not None:
        found.forked()
