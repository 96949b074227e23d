"""What a worker is at, in a file that outlives it: written before a function may run, and wiped once what came
of it is committed.

The file is mapped into memory, so that a note costs no call of the system (0.6 µs to write and wipe it, against
5 by two writes) and is there when the process ends, however it does. It need not survive the machine: then
nobody is to blame.

Each worker has one, locked for as long as it lives, with a place for each of its partitions. Who takes a
partition looks into those of others, and wipes the partition's place.
"""

import contextlib
import fcntl
import logging
import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from penstock.log.records import TopicPartition
from penstock.streams.suspicion import AccusedRows, Suspect

__all__ = ["AtWork", "Blamed", "LeftNote", "NoteFolder"]

log = logging.getLogger(__name__)

PLACES = 512
"""More partitions than that go without a note."""
PLACE_BYTES = 512
PLACES_AT = 64
ROWS_AT = PLACES_AT + PLACES * PLACE_BYTES
"""There is one place for rows, of which there may be many."""
HAD_AT = ROWS_AT + 64 * 1024
"""Partitions of which a function has had rows since all was settled have places, too."""
NOTE_BYTES = HAD_AT + PLACES * PLACE_BYTES
THREAD_BYTES = 8
CURRENT = slice(THREAD_BYTES, THREAD_BYTES + 2)
"""Which place's records a function has at this moment, counted from 1; 0 for none."""
NONE = bytes(2)
ROWS_BEFORE = THREAD_BYTES + 2
"""Whether a function has had rows since all was settled."""
_SUFFIX = ".note"
_WORDS = ".words"

Kind = TypeVar("Kind", bound=msgspec.Struct)


class _Slot:
    """A byte that says whether something stands here, its length in four, and the thing itself.

    The first is set last: what is half written is not there.
    """

    def __init__(self, memory: "mmap.mmap | bytearray", begin: int, end: int) -> None:
        self.begin = begin
        self._memory = memory
        self._body = begin + 5
        self._room = end - self._body

    def write(self, content: bytes) -> bool:
        """Whether there was room for it."""
        memory, size = self._memory, len(content)
        memory[self.begin] = 0
        if size > self._room:
            return False
        memory[self.begin + 1 : self._body] = size.to_bytes(4, "little")
        memory[self._body : self._body + size] = content
        memory[self.begin] = 1
        return True

    def wipe(self) -> None:
        self._memory[self.begin] = 0

    def read(self, kind: type[Kind]) -> Kind | None:
        """None where there is nothing, or nothing whole."""
        if not self._memory[self.begin]:
            return None
        size = int.from_bytes(self._memory[self.begin + 1 : self._body], "little")
        try:
            return msgspec.json.decode(self._memory[self._body : self._body + size], type=kind)
        except msgspec.DecodeError:
            return None


def _place(memory: "mmap.mmap | bytearray", number: int, places_at: int = PLACES_AT) -> _Slot:
    begin = places_at + number * PLACE_BYTES
    return _Slot(memory, begin, begin + PLACE_BYTES)


def _rows_place(memory: "mmap.mmap | bytearray") -> _Slot:
    return _Slot(memory, ROWS_AT, HAD_AT)


class AtWork:
    """A worker's own note."""

    def __init__(self, path: Path, thread: int) -> None:
        """`thread` is that of the engine. Raises `OSError` where there cannot be one."""
        self._path = path
        self._encoder = msgspec.json.Encoder()
        beside = path.with_suffix(".new")
        self._descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            # Locked before anybody can see it; written out, for a hole in a full disk would end the process.
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            written = os.write(self._descriptor, bytes(NOTE_BYTES))
            if written != NOTE_BYTES:
                raise OSError(f"{beside} has room for {written} bytes")
            self._memory = mmap.mmap(self._descriptor, NOTE_BYTES)
            beside.replace(path)
        except OSError:
            os.close(self._descriptor)
            with contextlib.suppress(OSError):
                beside.unlink()
            raise
        self._memory[:THREAD_BYTES] = thread.to_bytes(THREAD_BYTES, "little")
        self._places: dict[tuple[str, int], tuple[_Slot, bytes]] = {}
        self._open: list[_Slot] = []
        """Those whose records are not committed yet."""
        self._rows = _rows_place(self._memory)
        self._had: dict[tuple[str, int], _Slot] = {}
        self._had_open: set[tuple[str, int]] = set()

    def records(self, suspect: Suspect) -> None:
        """A function gets these."""
        key = (suspect.topic, suspect.partition)
        found = self._places.get(key)
        if found is None:
            number = len(self._places)
            if number == PLACES:
                return
            found = self._places[key] = (_place(self._memory, number), (number + 1).to_bytes(2, "little"))
        place, number_bytes = found
        self._open.append(place)
        if place.write(self._encoder.encode(suspect)):
            self._memory[CURRENT] = number_bytes

    def returned(self) -> None:
        """It has given them back. What it did may still end the process, or what came of it."""
        self._memory[CURRENT] = NONE

    def settled(self) -> None:
        """All is committed, or given up."""
        for place in self._open:
            place.wipe()
        self._open.clear()
        self._memory[ROWS_BEFORE] = 0
        for key in self._had_open:
            self._had[key].wipe()
        self._had_open.clear()

    def rows(self, accused: AccusedRows) -> None:
        """A step gets these, maybe amid records. Of more than there is room for only their number is noted."""
        encoded = self._encoder.encode(accused)
        if accused.count:
            self._memory[ROWS_BEFORE] = 1
            if (accused.topic, accused.partition) not in self._had_open:
                self._note_had(accused)
        if not self._rows.write(encoded):
            self._rows.write(self._encoder.encode(msgspec.structs.replace(accused, rows=())))

    def _note_had(self, accused: AccusedRows) -> None:
        key = (accused.topic, accused.partition)
        place = self._had.get(key)
        if place is None:
            number = len(self._had)
            if number == PLACES:
                return
            place = self._had[key] = _place(self._memory, number, HAD_AT)
        self._had_open.add(key)
        place.write(self._encoder.encode(msgspec.structs.replace(accused, rows=())))

    def rows_returned(self) -> None:
        self._rows.wipe()

    def close(self) -> None:
        """It ends in peace."""
        self._path.unlink(missing_ok=True)
        self.leave()

    def leave(self) -> None:
        """What stands in it is for others. In a child that was forked: it is its parent's, who lives or not."""
        self._memory.close()
        os.close(self._descriptor)


@dataclass(frozen=True, kw_only=True)
class Blamed:
    """What of a partition was at work: rows, or records. `within`: a function had them at that moment.

    `unclear`: all functions had returned, and it may have been either; `rows` are then some of them, without
    saying which.
    """

    rows: AccusedRows | None = None
    records: Suspect | None = None
    within: bool = True
    unclear: bool = False


class LeftNote:
    """Another worker's, who has ended or has lost the partition. `words` is what it could still say."""

    def __init__(self, path: Path) -> None:
        """Raises `OSError`; `ValueError` for what is no note."""
        self._path = path
        self._words_path = path.with_suffix(_WORDS)
        self._content = bytearray(path.read_bytes())
        if len(self._content) != NOTE_BYTES:
            raise ValueError(f"{path} is no note")
        self.thread = int.from_bytes(self._content[:THREAD_BYTES], "little")
        self.words = ""
        with contextlib.suppress(OSError):
            self.words = self._words_path.read_text("utf-8", "replace")
        self._records: dict[TopicPartition, tuple[_Slot, Suspect]] = {}
        self._current: Suspect | None = None
        self._rows = _rows_place(self._content).read(AccusedRows)
        self._had: dict[TopicPartition, tuple[_Slot, AccusedRows]] = {}
        self._read_places()

    def _read_places(self) -> None:
        current = int.from_bytes(self._content[CURRENT], "little")
        for number in range(PLACES):
            place = _place(self._content, number)
            suspect = place.read(Suspect)
            if suspect is not None:
                self._records[_source_of(suspect)] = (place, suspect)
                self._current = suspect if number + 1 == current else self._current
            place = _place(self._content, number, HAD_AT)
            rows = place.read(AccusedRows)
            if rows is not None:
                self._had[_source_of(rows)] = (place, rows)
        self._within = bool(current)
        self._rows_before = bool(self._content[ROWS_BEFORE])

    @property
    def idle(self) -> bool:
        return not self._records and self._rows is None and not self._had

    def about(self, source: TopicPartition) -> Blamed | None:
        """Rows are to blame rather than the records that they stand amid; records that a function has, rather
        than those that wait to be committed. Where a function had rows before, too, it may have been these.
        """
        if self._rows is not None:
            return Blamed(rows=self._rows) if _source_of(self._rows) == source else None
        _, records = self._records.get(source, (None, None))
        if self._within:
            return Blamed(records=records) if records is not None and records is self._current else None
        if not self._rows_before:
            return Blamed(records=records, within=False) if records is not None else None
        _, rows = self._had.get(source, (None, None))
        if records is None and rows is None:
            return None
        return Blamed(records=records, rows=rows, within=False, unclear=True)

    def forget(self, source: TopicPartition) -> None:
        """What it says of that partition is of no more use; where it says no more, it goes. Raises `OSError`.

        A place is wiped where it stands, by one byte: others may do so at the same time, and its owner may
        live.
        """
        wiped = [self._records.pop(source)[0].begin] if source in self._records else []
        if self._rows is not None and _source_of(self._rows) == source:
            wiped.append(ROWS_AT)
            self._rows = None
        if source in self._had:
            wiped.append(self._had.pop(source)[0].begin)
        if wiped:
            with self._path.open("r+b") as file:
                for begin in wiped:
                    os.pwrite(file.fileno(), b"\0", begin)
        if self.idle and self.owner_gone():
            self.remove()

    def remove(self) -> None:
        for path in (self._path, self._words_path):
            with contextlib.suppress(OSError):
                path.unlink()

    def owner_gone(self) -> bool:
        """Several may ask that at the same time, and each is told the same."""
        try:
            descriptor = os.open(self._path, os.O_RDWR)
        except OSError:
            return True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return False
        finally:
            os.close(descriptor)
        return True


def _source_of(noted: Suspect | AccusedRows) -> TopicPartition:
    return TopicPartition(noted.topic, noted.partition)


class NoteFolder:
    """The notes of all workers of an app on this machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def mine(self, identity: str, thread: int) -> AtWork:
        """Raises `OSError`."""
        self._folder.mkdir(parents=True, exist_ok=True)
        return AtWork(self._path(identity), thread)

    def words_path(self, identity: str) -> Path:
        """Where that worker's last words are to go. Raises `OSError`."""
        self._folder.mkdir(parents=True, exist_ok=True)
        return self._path(identity).with_suffix(_WORDS)

    def say(self, identity: str, words: str) -> None:
        """The last words of that worker, where it could say nothing else."""
        with contextlib.suppress(OSError):
            self.words_path(identity).write_text(words)

    def left_by_others(self, identity: str) -> Iterator[LeftNote]:
        """The oldest first. Those that tell nothing go, once whoever they were of is gone."""
        for path in sorted(self._folder.glob(f"*{_SUFFIX}"), key=_changed):
            if path == self._path(identity):
                continue
            try:
                note = LeftNote(path)
            except (OSError, ValueError):
                continue
            if not note.idle:
                yield note
            elif note.owner_gone():
                if note.words:
                    log.error("a worker ended, in no function of the app; its last words:\n%s", note.words)
                note.remove()

    def _path(self, identity: str) -> Path:
        return self._folder / f"{identity.replace(os.sep, '_')}{_SUFFIX}"


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
