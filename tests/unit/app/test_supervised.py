"""A worker's ear: what one message does to it costs it no other."""

import asyncio

from penstock.app.supervised import hear
from penstock.supervision.messages import Drain, Sample


class Channel:
    def __init__(self) -> None:
        self.messages = [Sample(1), Drain(), None]

    async def receive(self) -> object:
        return self.messages.pop(0)


class Worker:
    def __init__(self) -> None:
        self.heard: list[object] = []

    def hear(self, message: object) -> None:
        self.heard.append(message)
        if isinstance(message, Sample):
            raise OSError("too many open files")

    def orphaned(self) -> None: ...


def test_a_message_that_fails_does_not_make_it_deaf() -> None:
    async def life() -> tuple[bool, list[object]]:
        drain, worker = asyncio.Event(), Worker()
        await hear(worker, Channel(), drain)  # type: ignore[arg-type]
        return drain.is_set(), worker.heard

    assert asyncio.run(life()) == (True, [Sample(1), Drain()])
