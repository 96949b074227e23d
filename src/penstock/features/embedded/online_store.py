"""The store as a whole."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec

from penstock.core.clock import SystemClock
from penstock.features.embedded.online_file import OnlineFile, number_of, rows, table
from penstock.features.embedded.online_reader import EmbeddedReader
from penstock.features.embedded.online_writer import EmbeddedWriter
from penstock.features.view import FeatureView

__all__ = ["EmbeddedOnlineStore"]


class EmbeddedOnlineStore:
    """An `OnlineStore`: a file in the home folder that stream processes write and serve processes read. A
    reader makes no file: without one, nothing is known yet. `monotonic` is a time in seconds.
    """

    def __init__(self, home: Path, monotonic: Callable[[], float] = SystemClock.monotonic) -> None:
        self._file = OnlineFile(home)
        self._monotonic = monotonic

    @property
    def path(self) -> Path:
        return self._file.path

    def writer(self, view: FeatureView) -> EmbeddedWriter:
        """Raises `ConfigurationError` for a file that a newer Penstock made, or that is another's, and where
        the view's topic is another's.
        """
        with self._file.failures("nothing was written"):
            return EmbeddedWriter(self._file, view)

    def reader(self) -> EmbeddedReader:
        return EmbeddedReader(self._file, self._monotonic)

    def views(self) -> list[FeatureView]:
        if not self.path.exists():
            return []
        with self._file.failures("nothing was read"), closing(self._file.connect_to_read()) as connection:
            found = rows(connection, "SELECT definition FROM views")
        views = [msgspec.msgpack.decode(definition, type=FeatureView) for (definition,) in found]
        return sorted(views, key=lambda view: (view.name, view.app))

    def size(self, view: FeatureView) -> int:
        if not self.path.exists():
            return 0
        with self._file.failures("nothing was read"), closing(self._file.connect_to_read()) as connection:
            number = number_of(connection, view)
            if number is None:
                return 0
            (count,) = connection.execute(f"SELECT count(*) FROM {table(number)}").fetchone()  # noqa: S608
        return int(count)
