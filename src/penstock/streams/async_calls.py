"""An event loop on a thread of its own, where the async functions of streams run: so many at once at most."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence

import polars as pl

from penstock.streams.panics import panics_as_errors

__all__ = ["AsyncCallsThread"]


class AsyncCallsThread:
    """Thread-safe. Close it once nobody runs anything any more."""

    def __init__(self, *, timeout_s: float) -> None:
        """A call that takes longer than `timeout_s` is cancelled, and counts as if it raised `TimeoutError`."""
        self._timeout_s = timeout_s
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="async-calls", daemon=True)
        self._thread.start()

    def run(
        self,
        function: Callable[[pl.DataFrame], Awaitable[pl.DataFrame]],
        frames: Sequence[pl.DataFrame],
        *,
        concurrency: int,
    ) -> list[object | BaseException]:
        async def all_of_them() -> list[object | BaseException]:
            room = asyncio.Semaphore(concurrency)
            return list(await asyncio.gather(*(self._call(function, frame, room) for frame in frames)))

        return asyncio.run_coroutine_threadsafe(all_of_them(), self._loop).result()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _call(
        self,
        function: Callable[[pl.DataFrame], Awaitable[pl.DataFrame]],
        frame: pl.DataFrame,
        room: asyncio.Semaphore,
    ) -> object | BaseException:
        async with room:
            try:
                async with asyncio.timeout(self._timeout_s):
                    with panics_as_errors():
                        return await function(frame)
            except TimeoutError as error:
                return error if str(error) else TimeoutError(f"took longer than {self._timeout_s:g} s")
            except BaseException as error:  # an exit, too: it would end the loop, and all calls with it
                return error
