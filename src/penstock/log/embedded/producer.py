"""Appends on their own."""

from concurrent.futures import Future
from contextlib import suppress

from penstock.core.errors import StorageFailed, TooLarge
from penstock.log.embedded.consumer import LogParts
from penstock.log.embedded.pending import Append
from penstock.log.records import Records, TopicPartition

__all__ = ["EmbeddedProducer"]


class EmbeddedProducer:
    """Thread-safe. Waits, within `append`, while the log's queue is at its bounds."""

    def __init__(self, parts: LogParts) -> None:
        self._parts = parts
        self._closed = False

    def append(self, target: TopicPartition, records: Records) -> "Future[int]":
        assert not self._closed, "the producer is closed"
        try:
            append = Append.of(target, records, self._parts.limits)
        except TooLarge as error:
            refused: Future[int] = Future()
            refused.set_exception(error)
            return refused
        self._parts.writer.append(append)
        return append.future

    def close(self) -> None:
        self._closed = True
        # What is queued is written in order: once this has been, so has all before it. The futures of what
        # could not be written say so.
        with suppress(StorageFailed):
            self._parts.writer.call(lambda _session: None)
