"""The embedded log as a whole."""

from pathlib import Path
from types import TracebackType
from typing import Self

from penstock.core.clock import Clock
from penstock.log.embedded.admin import EmbeddedAdmin
from penstock.log.embedded.consumer import EmbeddedConsumer, LogParts
from penstock.log.embedded.database import Database
from penstock.log.embedded.groups import Groups
from penstock.log.embedded.limits import LogLimits
from penstock.log.embedded.producer import EmbeddedProducer
from penstock.log.embedded.topics import Catalog
from penstock.log.embedded.transaction import EmbeddedTransactionalProducer
from penstock.log.embedded.writer import Writer, WriterStatistics

__all__ = ["EmbeddedLog"]


class EmbeddedLog:
    """A log in a folder. Any number of processes may have it open; one that forks opens its own."""

    def __init__(self, folder: Path, clock: Clock, limits: LogLimits | None = None) -> None:
        """Makes what is not there. Raises `StorageFailed` and `ConfigurationError`, as `Database.open` does."""
        limits = limits or LogLimits()
        database = Database.open(folder)
        catalog = Catalog()
        self._writer = Writer(database, catalog, clock, limits)
        self._parts = LogParts(database, catalog, self._writer, Groups(folder), clock, limits)
        self._admin = EmbeddedAdmin(self._parts)

    @property
    def admin(self) -> EmbeddedAdmin:
        return self._admin

    def producer(self) -> EmbeddedProducer:
        return EmbeddedProducer(self._parts)

    def transactional(self, identity: str) -> EmbeddedTransactionalProducer:
        return EmbeddedTransactionalProducer(identity, self._parts)

    def consumer(self, group: str) -> EmbeddedConsumer:
        return EmbeddedConsumer(group, self._parts)

    def statistics(self) -> WriterStatistics:
        return self._writer.statistics()

    def close(self) -> None:
        """What was appended is written first. Consumers are closed by whoever has them."""
        self._writer.close()
        self._admin.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
