"""A worker's process: started, spoken with, and ended with its supervisor."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Sequence

import msgspec

from penstock.core.memory import sparing_environment
from penstock.supervision.channel import Channel
from penstock.supervision.messages import FromWorker, Report, ToWorker

__all__ = ["WorkerProcess"]

LAST_WORDS_S = 0.5

_decoder: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)


class WorkerProcess:
    """One process and the channel to it.

    It holds one end of a pipe, the lifeline, whose other end the worker watches: whatever ends the supervisor
    closes it, and the worker ends too.
    """

    def __init__(
        self, process: asyncio.subprocess.Process, channel: Channel[ToWorker, FromWorker], lifeline: int
    ) -> None:
        self._process = process
        self._lifeline = lifeline
        self.channel = channel
        self.report: Report | None = None

    @classmethod
    async def start(cls, command: Sequence[str], inherited: Sequence[int]) -> "WorkerProcess":
        """Runs `command`, with the numbers of its channel, its lifeline and `inherited` as arguments.

        Raises `OSError` where there are no processes or descriptors left.
        """
        ours, theirs = socket.socketpair()
        lifeline_read, lifeline = os.pipe()
        passed = (theirs.fileno(), lifeline_read, *inherited)
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                *(str(descriptor) for descriptor in passed),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=passed,
                env=sparing_environment(os.environ),
            )
        except BaseException:
            os.close(lifeline)
            ours.close()
            raise
        finally:
            os.close(lifeline_read)
            theirs.close()
        return cls(process, await Channel.open(ours, _decoder), lifeline)

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        # Not by the process object: it would look for the end by itself, and take it from who waits for it.
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)

    async def ended(self) -> str:
        """Waits for its end; how it ended, in words."""
        code = await self._process.wait()
        # What it said last is still read. The end of file is not waited for: a process that it forked may hold
        # the other end.
        asyncio.get_running_loop().call_later(LAST_WORDS_S, self.channel.close)
        os.close(self._lifeline)
        if code >= 0:
            return f"ended with status {code}"
        try:
            return f"was ended by {signal.Signals(-code).name}"
        except ValueError:
            return f"was ended by signal {-code}"
