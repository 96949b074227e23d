"""Suspects by partition, a file each, where whoever has the partition next finds them."""

from pathlib import Path

import msgspec

from penstock.core.durable_files import make_folder, replace_file
from penstock.log.records import TopicPartition
from penstock.streams.suspicion import AccusedRows, Suspect

__all__ = ["SuspectFolder"]


class SuspectFolder:
    """What cannot be read counts as not there."""

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

    def ends(self, source: TopicPartition) -> int:
        """Processes that have ended in a row, at work on that partition, of which nobody is suspected."""
        try:
            return msgspec.json.decode(self._path(source, ".ends").read_bytes(), type=int)
        except (OSError, msgspec.DecodeError):
            return 0

    def keep_ends(self, source: TopicPartition, ends: int) -> None:
        """Raises `OSError`."""
        make_folder(self._folder)
        replace_file(self._path(source, ".ends"), msgspec.json.encode(ends))

    def clear_ends(self, source: TopicPartition) -> None:
        self._path(source, ".ends").unlink(missing_ok=True)

    def _path(self, source: TopicPartition, kind: str = "") -> Path:
        return self._folder / f"{source.topic}-{source.partition}{kind}.json"
