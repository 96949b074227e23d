"""A worker's life and its ear: what it is told to be, what it says when it cannot, what a message costs it."""

import asyncio
import logging

import pytest

from penstock.app.supervised import begin, hear
from penstock.core.errors import ConfigurationError
from penstock.core.settings import Settings
from penstock.supervision.messages import Drain, Failed, Sample, Start, Wanted

START = Start(number=3, app="app.py", settings=Settings(), grpc_port=-1, wanted=Wanted())


class Channel:
    def __init__(self, *messages: object) -> None:
        self.messages = list(messages)
        self.sent: list[object] = []
        self.flushed: list[object] = []

    async def receive(self) -> object:
        """None: the supervisor is gone. After the last one it says nothing for ever."""
        if not self.messages:
            await asyncio.Event().wait()
        return self.messages.pop(0)

    def send(self, message: object) -> None:
        self.sent.append(message)

    async def flush(self) -> None:
        self.flushed, self.sent = self.sent, []


class Worker:
    def __init__(self, fault: Exception | None = None) -> None:
        self.fault = fault
        self.heard: list[object] = []
        self.orphan = False

    async def run(self, drain: asyncio.Event) -> None:
        if self.fault is not None:
            raise self.fault
        await drain.wait()

    def hear(self, message: object) -> None:
        self.heard.append(message)
        if isinstance(message, Sample):
            raise OSError("too many open files")

    def orphaned(self) -> None:
        self.orphan = True


@pytest.fixture(autouse=True)
def _no_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)


def test_a_message_that_fails_does_not_make_it_deaf() -> None:
    async def life() -> tuple[bool, list[object]]:
        drain, worker = asyncio.Event(), Worker()
        await hear(worker, Channel(Sample(1), Drain(), None), drain)  # type: ignore[arg-type]
        assert worker.orphan
        return drain.is_set(), worker.heard

    assert asyncio.run(life()) == (True, [Sample(1), Drain()])


def lived(channel: Channel, worker: Worker | Exception) -> int:
    def make(start: Start) -> Worker:
        assert start is START
        if isinstance(worker, Exception):
            raise worker
        return worker

    return asyncio.run(begin(channel, "worker", make))  # type: ignore[arg-type]


def test_it_is_what_it_was_told_until_it_is_told_to_drain() -> None:
    channel, worker = Channel(START, Drain(2.0)), Worker()
    assert lived(channel, worker) == 0
    assert worker.heard == [Drain(2.0)]
    assert not worker.orphan
    assert (channel.sent, channel.flushed) == ([], [])


def test_it_ends_where_the_supervisor_is_gone() -> None:
    worker = Worker()
    assert lived(Channel(START, None), worker) == 0
    assert worker.orphan


@pytest.mark.parametrize("messages", [(None,), (Sample(1), START)])
def test_one_that_is_not_told_what_to_be_is_nothing(messages: tuple[object, ...]) -> None:
    worker = Worker()
    assert lived(Channel(*messages), worker) == 1
    assert worker.heard == []


@pytest.mark.parametrize(
    "worker",
    [
        ConfigurationError("no app", hint="make one"),
        Worker(ConfigurationError("no app", hint="make one")),
    ],
)
def test_what_keeps_it_from_work_is_said(worker: Worker | Exception) -> None:
    channel = Channel(START)
    assert lived(channel, worker) == 1
    assert channel.flushed == [Failed(message="no app", hint="make one")]


def test_a_fault_of_ours_is_no_message() -> None:
    channel = Channel(START)
    with pytest.raises(ZeroDivisionError):
        lived(channel, Worker(ZeroDivisionError()))
    assert channel.flushed == []
