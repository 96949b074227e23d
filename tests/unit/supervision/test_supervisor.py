"""The supervisor at odd moments, without a process."""

import asyncio
import socket

from penstock.core.clock import ManualClock
from penstock.core.settings import Settings
from penstock.supervision.supervisor import Supervisor, SupervisorConfig


def test_nothing_is_started_once_the_port_is_given_up() -> None:
    """Told to stop while the first of two workers is being started, it has the second still to start."""

    async def life() -> tuple[bool, list[str]]:
        said: list[str] = []
        listener = socket.socket()
        config = SupervisorConfig(
            app="app.py", command=["/bin/false"], stream_command=["/bin/false"], version="0"
        )
        supervisor = Supervisor(config, Settings, listener, -1, clock=ManualClock(), report=said.append)
        starting = supervisor._pool.start(0.0)
        supervisor._stopping = True
        await supervisor._drain(graceful=False)
        await supervisor._do(starting)
        return supervisor._ended.is_set(), said

    assert asyncio.run(life()) == (True, [])
