"""Parquet files of a folder or a pattern, in the order of their names."""

import glob
import logging
from pathlib import Path

from penstock.core.errors import InvalidInput
from penstock.streams.feeds.files import SourceFile

__all__ = ["ParquetFiles", "is_pattern"]

log = logging.getLogger(__name__)


def is_pattern(path: Path) -> bool:
    return glob.has_magic(str(path))


class ParquetFiles:
    """A file is known by its name, and is the same while its size and time of change are.

    Files that come later are read when their names sort behind those that were read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._passed: set[str] | None = None

    def same(self, at: dict[str, object]) -> SourceFile:
        path = Path(str(at["file"]))
        try:
            found = _at(path)
        except OSError as error:
            raise InvalidInput(
                f"{path} is gone, and was read in part ({error.strerror})", hint="put it back as it was"
            ) from error
        if found != at:
            raise _changed(path)
        return SourceFile(at=at, path=path)

    def after(self, at: dict[str, object] | None) -> SourceFile | None:
        names = self._names()
        if at is not None:
            last = str(at["file"])
            self._look_behind(names, last)
            if last in names and _at(Path(last)) != at:
                raise _changed(Path(last))
            names = [name for name in names if name > last]
        if not names:
            return None
        path = Path(names[0])
        try:
            return SourceFile(at=_at(path), path=path)
        except OSError as error:
            raise InvalidInput(f"{path} cannot be read: {error.strerror}") from error

    def _names(self) -> list[str]:
        """Files that are hidden, or in folders that are, or that begin with `_`, are no one's to read yet."""
        path = str(self._path)
        if is_pattern(self._path):
            found = glob.glob(path, recursive=True)
        elif self._path.is_dir():
            found = glob.glob(str(Path(glob.escape(path)) / "*.parquet"))
        elif self._path.is_file():
            return [path]
        else:
            raise InvalidInput(f"there is no folder {path}", hint="it is looked for again and again")
        fixed = len(self._fixed_parts())
        return sorted(
            name
            for name in found
            if not any(part.startswith(("_", ".")) for part in Path(name).parts[fixed:])
            and Path(name).is_file()
        )

    def _fixed_parts(self) -> list[str]:
        parts = []
        for part in self._path.parts:
            if glob.has_magic(part):
                break
            parts.append(part)
        return parts

    def _look_behind(self, names: list[str], last: str) -> None:
        passed = {name for name in names if name <= last}
        for name in sorted(passed - self._passed - {last}) if self._passed is not None else ():
            log.warning("%s came after %s was read, and sorts before it: it is left out", name, last)
        self._passed = passed | (self._passed or set())


def _at(path: Path) -> dict[str, object]:
    stat = path.stat()
    return {"file": str(path), "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}


def _changed(path: Path) -> InvalidInput:
    return InvalidInput(
        f"{path} is another file than the one that was read (its size or time of change is)",
        hint="put it back as it was, and give new rows a new file whose name sorts behind",
    )
