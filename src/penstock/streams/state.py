"""Snapshots of a stage's state in a folder: what bounds how much of the changelog a restart has to read.

A snapshot is named after the offset of the changelog from which on changes follow it. It is written beside,
synced, and renamed into place with a checksum; of the two that are kept the newest that is whole counts.
"""

import contextlib
import hashlib
import logging
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from penstock.core.durable_files import make_folder, replace_file
from penstock.core.errors import StorageFailed

__all__ = ["KEPT", "Snapshot", "SnapshotFolder", "mark_of"]

log = logging.getLogger(__name__)

KEPT = 2
_MAGIC = b"PSSNAP02"
_MARK_BYTES = 8
_HEAD = struct.Struct("<8sIqQ")
"""Magic, CRC of all that follows it in the file, offset, bytes of the mark and the state, which come next."""
_SUFFIX = ".state"


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A state, and the offset of the changelog from which on it has to be followed."""

    offset: int
    state: bytes
    mark: bytes = bytes(_MARK_BYTES)
    """Of the changes before that offset: in another log there are others."""


def mark_of(changes: bytes) -> bytes:
    return hashlib.blake2b(changes, digest_size=_MARK_BYTES).digest()


class SnapshotFolder:
    """The snapshots of one partition of one stage."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def newest_first(self) -> Iterator[Snapshot]:
        """Those that are whole. Damaged ones are told of in the log and left where they are."""
        for offset, path in reversed(self._found()):
            content = _read(path, offset)
            if content is not None:
                yield Snapshot(offset=offset, mark=content[:_MARK_BYTES], state=content[_MARK_BYTES:])
            else:
                log.warning("snapshot %s is damaged; an older one is taken", path)

    def forget_after(self, end: int) -> list[int]:
        """Removes those of later offsets, and says which."""
        gone = [(offset, path) for offset, path in self._found() if offset > end]
        for _, path in gone:
            with contextlib.suppress(OSError):
                path.unlink()
        return [offset for offset, _ in gone]

    def forget(self, offset: int) -> None:
        """Removes the one of that offset."""
        with contextlib.suppress(OSError):
            self._path(offset).unlink()

    def write(self, snapshot: Snapshot) -> int:
        """Keeps it. Older ones than the last `KEPT` go. The offset from which on the changelog is still needed.

        Raises `StorageFailed` where it could not be kept; what was there still is.
        """
        body = struct.pack("<qQ", snapshot.offset, _MARK_BYTES + len(snapshot.state)) + snapshot.mark
        head = _MAGIC + struct.pack("<I", zlib.crc32(snapshot.state, zlib.crc32(body))) + body
        path = self._path(snapshot.offset)
        try:
            make_folder(self._folder)
            replace_file(path, head, snapshot.state)
        except OSError as error:
            raise StorageFailed(f"snapshot {path}: {error.strerror or error}") from error
        return self._forget()

    def _forget(self) -> int:
        """Removes the older ones. One that is damaged does not count among those that are kept."""
        found = self._found()
        whole = 0
        needed = found[-1][0]
        for offset, path in reversed(found):
            if whole < KEPT and _read(path, offset) is not None:
                whole += 1
                needed = offset
            else:
                with contextlib.suppress(OSError):
                    path.unlink()
        for left in self._folder.glob(f"*{_SUFFIX}.new"):
            with contextlib.suppress(OSError):
                left.unlink()
        # With a single one there is nothing older to fall back to but the changelog itself.
        return needed if whole == KEPT else 0

    def _path(self, offset: int) -> Path:
        return self._folder / f"{offset:020d}{_SUFFIX}"

    def _found(self) -> list[tuple[int, Path]]:
        paths = self._folder.glob(f"*{_SUFFIX}")
        return sorted((int(path.stem), path) for path in paths if path.stem.isdecimal())


def _read(path: Path, offset: int) -> bytes | None:
    """The mark and the state in the file; None where they are not whole."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    if len(content) < _HEAD.size:
        return None
    magic, crc, said, size = _HEAD.unpack_from(content)
    body = memoryview(content)[12:]
    whole = magic == _MAGIC and said == offset and len(content) == _HEAD.size + size
    return content[_HEAD.size :] if whole and zlib.crc32(body) == crc else None
