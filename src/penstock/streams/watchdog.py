"""What to do about a function of the user that never returns: end the process, and remember what it was at.

On the next start the suspect records are processed in ever smaller batches, until the one is found on which it
hangs. That one becomes a dead letter.
"""

import itertools
import logging
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from penstock.core.clock import Clock
from penstock.core.durable_files import make_folder, replace_file
from penstock.log.records import Fetched, Records, TopicPartition

__all__ = ["HUNG_STATUS", "AccusedRows", "Suspect", "SuspectFolder", "Watchdog", "cut", "pieces", "suspect_of"]

log = logging.getLogger(__name__)

HUNG_STATUS = 86
LOOK_EVERY_S = 0.25
STOPPED_S_MIN = 1.0
"""Between two looks: who comes so much too late was stopped, and so was all that it watches."""


class Suspect(msgspec.Struct, frozen=True, kw_only=True):
    """Records of a partition, from offset `begin` to before `end`, `count` of them, on one of which it hung."""

    topic: str
    partition: int
    begin: int
    end: int
    count: int
    reason: str = "hung"
    detail: str = ""

    @property
    def found(self) -> bool:
        """Whether it is a single record, which is then the culprit."""
        return self.count == 1


class AccusedRows(msgspec.Struct, frozen=True, kw_only=True):
    """Rows that a stage made itself, by digests of their contents: on one of `rows` the function of that step
    hung; `found` are those that it is known to hang on from before.
    """

    topic: str
    partition: int
    step: str
    rows: tuple[str, ...]
    found: tuple[str, ...] = ()
    detail: str = ""


Accuse = Callable[[str], AccusedRows]
"""Tells which rows are at work, with that as the detail."""


def suspect_of(fetched: Fetched, *, reason: str, detail: str) -> Suspect:
    return Suspect(
        topic=fetched.source.topic,
        partition=fetched.source.partition,
        begin=int(fetched.offsets[0]),
        end=fetched.next_offset,
        count=len(fetched.records),
        reason=reason,
        detail=detail,
    )


class SuspectFolder:
    """Suspects by partition, a file each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, source: TopicPartition) -> Suspect | None:
        try:
            return msgspec.json.decode(self._path(source).read_bytes(), type=Suspect)
        except (OSError, msgspec.DecodeError):
            return None

    def keep(self, suspect: Suspect) -> None:
        """Raises `OSError`."""
        make_folder(self._folder)
        path = self._path(TopicPartition(suspect.topic, suspect.partition))
        replace_file(path, msgspec.json.encode(suspect))

    def clear(self, source: TopicPartition) -> None:
        self._path(source).unlink(missing_ok=True)

    def find_rows(self, source: TopicPartition) -> AccusedRows | None:
        try:
            return msgspec.json.decode(self._path(source, ".rows").read_bytes(), type=AccusedRows)
        except (OSError, msgspec.DecodeError):
            return None

    def keep_rows(self, accused: AccusedRows) -> None:
        """Raises `OSError`."""
        make_folder(self._folder)
        path = self._path(TopicPartition(accused.topic, accused.partition), ".rows")
        replace_file(path, msgspec.json.encode(accused))

    def clear_rows(self, source: TopicPartition) -> None:
        self._path(source, ".rows").unlink(missing_ok=True)

    def _path(self, source: TopicPartition, kind: str = "") -> Path:
        return self._folder / f"{source.topic}-{source.partition}{kind}.json"


class Watchdog:
    """Ends the process when what it was told to watch takes longer than `timeout_s`.

    A thread of its own looks; `begin` and `end` are called by the one that works.
    """

    def __init__(
        self,
        suspects: SuspectFolder,
        timeout_s: float,
        clock: Clock,
        end_process: Callable[[int], object] = os._exit,
    ) -> None:
        self._suspects = suspects
        self._timeout_s = timeout_s
        self._clock = clock
        self._end_process = end_process
        self._watched: tuple[float, Suspect | Accuse] | None = None
        self._stopped = threading.Event()
        self._excused_s = 0.0

    def start(self) -> None:
        threading.Thread(target=self._look_forever, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    @property
    def suspect(self) -> Suspect | None:
        """What is being worked on."""
        watched = self._watched[1] if self._watched is not None else None
        return watched if isinstance(watched, Suspect) else None

    def begin(self, fetched: Fetched) -> None:
        """These records are being worked on."""
        suspect = suspect_of(fetched, reason="hung", detail=self._detail)
        self._watched = (self._now_s(), suspect)

    def end(self) -> None:
        self._watched = None

    def begin_rows(self, accuse: Accuse) -> "tuple[float, Suspect | Accuse] | None":
        """A function works on rows that a stage made itself, maybe amid records, which are not at fault for it.
        What to give to `end_rows`.
        """
        before, now_s = self._watched, self._now_s()
        self._watched = (now_s, accuse)
        return (before[0] - now_s, before[1]) if before is not None else None

    def end_rows(self, before: "tuple[float, Suspect | Accuse] | None") -> None:
        """It has returned; the time that it took does not count for the records."""
        self._watched = (before[0] + self._now_s(), before[1]) if before is not None else None

    def look(self) -> None:
        """Ends the process where it hangs."""
        watched = self._watched
        if watched is None or self._now_s() - watched[0] <= self._timeout_s:
            return
        try:
            self._keep(watched[1])
        except Exception:
            log.exception("what it hung on could not be kept")
        self._end_process(HUNG_STATUS)

    def _keep(self, hung: "Suspect | Accuse") -> None:
        if isinstance(hung, Suspect):
            log.error(
                "%s/%d, offsets %d to %d: not done within %.0f s; the process ends and tries them in parts",
                *(hung.topic, hung.partition, hung.begin, hung.end - 1, self._timeout_s),
            )
            self._suspects.keep(hung)
            return
        accused = hung(self._detail)
        log.error(
            "%s/%d: %r is not done with %d rows within %.0f s; the process ends and tries them in parts",
            *(accused.topic, accused.partition, accused.step, len(accused.rows), self._timeout_s),
        )
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
    """The records in parts, of which those that are suspect are at most half of what they were when it hung.
    True with the one that is the culprit.
    """
    offsets = fetched.offsets
    begin = int(offsets.searchsorted(suspect.begin))
    end = int(offsets.searchsorted(suspect.end))
    step = max(1, suspect.count // 2)
    bounds = sorted({0, *range(begin, end, step), end, len(offsets)})
    for at, until in itertools.pairwise(bounds):
        yield cut(fetched, at, until), suspect.found and at == begin and begin < end
