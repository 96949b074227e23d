"""Files and folders that are still there after the power was cut: made whole or not at all, and synced."""

import contextlib
import os
from pathlib import Path

__all__ = ["make_folder", "replace_file", "sync_folder"]

BESIDE_SUFFIX = ".new"


def make_folder(folder: Path) -> None:
    """Makes the folder and those above it, durably. Raises `OSError`."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Makes what was made, renamed and removed in the folder durable. Raises `OSError`."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, *pieces: bytes) -> None:
    """Writes a file whole or not at all, durably; until then it is what it was. Raises `OSError`.

    It is written beside, under its name and `.new`, which a process that dies leaves behind.
    """
    beside = path.with_name(path.name + BESIDE_SUFFIX)
    try:
        with beside.open("wb") as stream:
            for piece in pieces:
                stream.write(piece)
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise
    sync_folder(path.parent)
