"""Appends that tasks of an event loop wait for."""

import asyncio
from collections import deque
from concurrent.futures import Future
from contextlib import suppress

from penstock.log.port import Producer
from penstock.log.records import Records, TopicPartition

__all__ = ["AsyncProducer"]

IN_FLIGHT_MAX = 4096
SMALL_BYTES_MAX = 64 * 1024
"""What is larger is handed over in a thread, as it is compressed on the way and may have to wait for room."""
SMALL_ROWS_MAX = 64


class AsyncProducer:
    """For tasks of the event loop that it is made in.

    What becomes durable together wakes the loop once: `asyncio.wrap_future` would wake it for every append,
    which costs as much as the append does. At most `in_flight_max` are under way; others wait for them.
    """

    def __init__(self, producer: Producer, *, in_flight_max: int = IN_FLIGHT_MAX) -> None:
        assert in_flight_max >= 1, "one append at least is under way"
        self._producer = producer
        self._loop = asyncio.get_running_loop()
        self._room = asyncio.Semaphore(in_flight_max)
        self._done: deque[tuple[asyncio.Future[int], Future[int]]] = deque()
        self._waking = False

    async def append(self, target: TopicPartition, records: Records) -> int:
        """The offset of the first record, once all of them are durable. Raises what the future of
        `Producer.append` does; who is cancelled does not know whether they are durable.
        """
        async with self._room:
            small = len(records) <= SMALL_ROWS_MAX and records.size_bytes <= SMALL_BYTES_MAX
            if small:
                future = self._producer.append(target, records)
            else:
                future = await asyncio.to_thread(self._producer.append, target, records)
            waiter: asyncio.Future[int] = self._loop.create_future()
            future.add_done_callback(lambda done: self._tell(waiter, done))
            return await waiter

    async def close(self) -> None:
        """Closes the producer: waits until all that was appended is durable, or has failed."""
        await asyncio.to_thread(self._producer.close)

    def _tell(self, waiter: "asyncio.Future[int]", done: "Future[int]") -> None:
        """In whichever thread. Put there first: who finds that the loop is being woken is seen by it then."""
        self._done.append((waiter, done))
        if self._waking:
            return
        self._waking = True
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._settle)

    def _settle(self) -> None:
        self._waking = False
        while self._done:
            waiter, done = self._done.popleft()
            if waiter.done():
                continue  # its task was cancelled
            if done.cancelled():
                waiter.cancel()
            elif (error := done.exception()) is not None:
                waiter.set_exception(error)
            else:
                waiter.set_result(done.result())
