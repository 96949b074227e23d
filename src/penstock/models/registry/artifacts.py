"""Where the bytes of versions are kept: a content-addressed port, and a folder behind it."""

import contextlib
import errno
import fcntl
import hashlib
import io
import os
import re
import stat
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Protocol

import msgspec

from penstock.core.durable_files import make_folder, sync_folder
from penstock.core.errors import CorruptArtifact, InvalidInput, NotFound, StorageFailed
from penstock.core.rng import unique_token

__all__ = ["ArtifactStore", "FolderArtifactStore", "OnStep", "StoredArtifact", "no_step"]

CHUNK_BYTES = 1024 * 1024
PART_SUFFIX = ".part"
PART_ATTEMPTS_MAX = 10
READ_ONLY = 0o444
_DIGEST = re.compile(r"[0-9a-f]{64}")

OnStep = Callable[[str], None]
"""Called with the name of each step that a push has just completed: where a test kills the process."""


def no_step(step: str) -> None:
    """Steps that nobody watches."""


class StoredArtifact(msgspec.Struct, frozen=True, kw_only=True):
    """Stored bytes: their SHA-256 (hexadecimal), their number, and when they were last put."""

    digest: str
    size_bytes: int
    stored_at: datetime


class ArtifactStore(Protocol):
    """Bytes under their SHA-256. One store belongs to one registry, whose garbage collector empties it."""

    def put(self, source: Path | bytes) -> StoredArtifact:
        """Stores the bytes durably, or nothing; putting what is there refreshes `stored_at` and mends it.

        Raises `NotFound` for a missing source, `InvalidInput` for one that cannot be read, `StorageFailed`
        when the store does not take it.
        """
        ...

    def fetch(self, digest: str) -> Path:
        """A local file with exactly these bytes, which the caller must not change.

        Raises `CorruptArtifact` where the bytes are missing or have another digest, `StorageFailed` where
        they cannot be read.
        """
        ...

    def exists(self, digest: str) -> bool:
        """Whether it is there; its bytes are not read. Raises `StorageFailed`."""
        ...

    def delete(self, digest: str) -> None:
        """Removes it; one that is not there is as good as removed. Raises `StorageFailed`."""
        ...

    def stat(self, digest: str) -> StoredArtifact | None:
        """What is stored under the digest, None where nothing is. Raises `StorageFailed`."""
        ...

    def list(self) -> Iterator[StoredArtifact]:
        """All that is stored, in no order. Raises `StorageFailed`."""
        ...

    def sweep(self, before: datetime) -> tuple[int, ...]:
        """Removes what puts that died have left, last written before that time; the sizes removed, in bytes.

        Raises `StorageFailed`.
        """
        ...


class FolderArtifactStore:
    """A folder with one read-only file a digest. Several processes may use it at once.

    Bytes are written under a temporary name, synced, renamed and the folder synced: whatever dies when, a
    file under a digest is whole. A put holds a lock on its temporary file, which dies with its process.
    """

    def __init__(self, root: Path, *, on_step: OnStep = no_step) -> None:
        self.root = root
        self._on_step = on_step

    def put(self, source: Path | bytes) -> StoredArtifact:
        with open_source(source) as stream:
            try:
                make_folder(self.root)
                stored = self._write(stream, source)
                sync_folder(self.root)
            except OSError as error:
                raise _storage_failed(error, f"{describe(source)} was not stored in {self.root}") from error
        return stored

    def _write(self, stream: BinaryIO, source: Path | bytes) -> StoredArtifact:
        part, target = self._open_part()
        digest = hashlib.sha256()
        try:
            with target:
                self._on_step("part opened")
                while chunk := _read_chunk(stream, source):
                    digest.update(chunk)
                    target.write(chunk)
                target.flush()
                self._on_step("part written")
                os.fchmod(target.fileno(), READ_ONLY)
                # A failed sync is not tried again on this file: the kernel may have dropped its pages already.
                os.fsync(target.fileno())
                stored = _stored(digest.hexdigest(), os.fstat(target.fileno()))
                # Also over a file that is there: the new one is known to be whole, and it is young again for
                # a garbage collector that has seen the old one unused. While it is open, hence locked.
                part.replace(self._path(stored.digest))
                self._on_step("artifact renamed")
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
        return stored

    def _open_part(self) -> tuple[Path, BinaryIO]:
        """A new temporary file, locked for as long as it is open: so `sweep` knows the dead from the living."""
        for _ in range(PART_ATTEMPTS_MAX):
            part = self.root / f".{unique_token()}{PART_SUFFIX}"
            target = part.open("xb")
            try:
                fcntl.flock(target, fcntl.LOCK_EX)
                if os.fstat(target.fileno()).st_nlink > 0:
                    return part, target
                # A sweep came between opening and locking, and took it for dead.
            except BaseException:
                target.close()
                part.unlink(missing_ok=True)
                raise
            target.close()
        raise OSError(errno.EBUSY, "each temporary file was swept at once")

    def fetch(self, digest: str) -> Path:
        path = self._path(digest)
        try:
            with path.open("rb") as stream:
                found = hashlib.file_digest(stream, "sha256").hexdigest()
                size_bytes = stream.tell()
        except FileNotFoundError:
            raise CorruptArtifact(
                f"artifact {digest} is missing: there is no {path}",
                hint="restore the file from a backup, or push the model again and move its aliases",
            ) from None
        except OSError as error:
            raise _storage_failed(error, f"artifact {digest} cannot be read from {path}") from error
        if found != digest:
            raise CorruptArtifact(
                f"artifact {digest} is corrupt: {path} has {size_bytes} bytes with SHA-256 {found}",
                hint="restore the file from a backup, or push the model again and move its aliases",
            )
        return path

    def exists(self, digest: str) -> bool:
        return self.stat(digest) is not None

    def stat(self, digest: str) -> StoredArtifact | None:
        path = self._path(digest)
        try:
            return _stored(digest, path.stat())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _storage_failed(error, f"artifact {digest} cannot be looked up at {path}") from error

    def delete(self, digest: str) -> None:
        path = self._path(digest)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise _storage_failed(error, f"artifact {digest} was not removed from {path}") from error

    def list(self) -> Iterator[StoredArtifact]:
        for name, status in self._entries():
            if _DIGEST.fullmatch(name):
                yield _stored(name, status)

    def sweep(self, before: datetime) -> tuple[int, ...]:
        removed_bytes = []
        for name, status in self._entries():
            if name.endswith(PART_SUFFIX) and status.st_mtime < before.timestamp():
                try:
                    removed = _remove_unlocked(self.root / name)
                except OSError as error:
                    raise _storage_failed(error, f"{name} was not removed from {self.root}") from error
                if removed:
                    removed_bytes.append(status.st_size)
        return tuple(removed_bytes)

    def _entries(self) -> Iterator[tuple[str, os.stat_result]]:
        try:
            names = os.listdir(self.root)
        except FileNotFoundError:
            return
        except OSError as error:
            raise _storage_failed(error, f"{self.root} cannot be listed") from error
        for name in names:
            # Another process may finish, mend or collect any of them meanwhile.
            with contextlib.suppress(FileNotFoundError):
                yield name, (self.root / name).stat()

    def _path(self, digest: str) -> Path:
        if not _DIGEST.fullmatch(digest):
            raise CorruptArtifact(
                f"{digest[:80]!r} is not a SHA-256 in lower-case hexadecimal",
                hint="the registry's row is damaged: restore the database from a backup",
            )
        return self.root / digest


def describe(source: Path | bytes) -> str:
    """The source in words, for messages."""
    return str(source) if isinstance(source, Path) else f"a file of {len(source)} bytes"


def open_source(source: Path | bytes) -> BinaryIO:
    """The source for reading. Raises `NotFound` or `InvalidInput`, naming the file."""
    if isinstance(source, bytes):
        return io.BytesIO(source)
    try:
        # Asked before opening, since opening a pipe that nobody writes to would never return.
        if not stat.S_ISREG(source.stat().st_mode):
            raise InvalidInput(
                f"{source} is not a file", where=str(source), hint="name the model's file itself"
            )
        return source.open("rb")
    except FileNotFoundError:
        raise NotFound(f"there is no file {source}", hint="check the path of the model's file") from None
    except OSError as error:
        raise _unreadable(source, error) from error


def _read_chunk(stream: BinaryIO, source: Path | bytes) -> bytes:
    try:
        return stream.read(CHUNK_BYTES)
    except OSError as error:
        raise _unreadable(source, error) from error


def _unreadable(source: Path | bytes, error: OSError) -> InvalidInput:
    return InvalidInput(
        f"{describe(source)} cannot be read: {error.strerror}",
        where=describe(source),
        hint="check who may read the file, and the disk that it is on",
    )


def _stored(digest: str, status: os.stat_result) -> StoredArtifact:
    stored_at = datetime.fromtimestamp(status.st_mtime, UTC)
    return StoredArtifact(digest=digest, size_bytes=status.st_size, stored_at=stored_at)


def _remove_unlocked(part: Path) -> bool:
    """Removes the file unless a put has it open; whether it did. Raises `OSError`."""
    try:
        with part.open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            part.unlink()
    except (BlockingIOError, FileNotFoundError):
        return False
    return True


def _storage_failed(error: OSError, undone: str) -> StorageFailed:
    hints = {
        errno.ENOSPC: "the disk is full: free some space (penstock collects what no version uses), try again",
        errno.EDQUOT: "the quota is used up: free some space, then try again",
        errno.EFBIG: "the file passes the limit of the process or the file system (ulimit -f)",
        errno.EACCES: "check who may write there",
        errno.EPERM: "check who may write there",
        errno.EROFS: "the file system is mounted read-only",
        errno.EMFILE: "the process has used up its file handles (ulimit -n)",
        errno.EIO: "the disk fails: look at the kernel's log, do not trust this disk",
    }
    said = error.strerror or str(error)
    return StorageFailed(f"{undone}: {said}", hint=hints.get(error.errno or 0, "mend that, then try again"))
