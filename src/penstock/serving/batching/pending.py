"""A request that waits for its batch, and its caller's hold on it."""

import asyncio
from typing import Protocol

from penstock.core.tensors import Tensors
from penstock.serving.batching.outputs import BatchRows
from penstock.serving.batching.queue import BatchQueue, ShapeKey

__all__ = ["Answer", "PendingAnswer", "PendingRequest"]


class PendingRequest:
    """A request that waits or runs, and its caller's future."""

    __slots__ = (
        "arrived_s",
        "criticality",
        "deadline_s",
        "due_s",
        "future",
        "queued",
        "rows",
        "shape_key",
        "size_bytes",
        "tensors",
    )

    def __init__(  # noqa: PLR0913, PLR0917 - made once a request, on the hot path
        self,
        tensors: Tensors,
        rows: int,
        size_bytes: int,
        arrived_s: float,
        deadline_s: float,
        due_s: float,
        criticality: int,
        shape_key: ShapeKey,
        future: "asyncio.Future[BatchRows]",
    ) -> None:
        self.tensors = tensors
        self.rows = rows
        self.size_bytes = size_bytes
        self.arrived_s = arrived_s
        self.deadline_s = deadline_s
        self.due_s = due_s
        self.criticality = criticality
        self.shape_key = shape_key
        self.future = future
        self.queued = False

    @property
    def abandoned(self) -> bool:
        return self.future.done()


class Answer(Protocol):
    """A caller's hold on what it asked, whoever answers."""

    @property
    def future(self) -> "asyncio.Future[BatchRows]": ...

    def abandon(self) -> None:
        """Nobody waits for it any more."""
        ...


class PendingAnswer:
    """A caller's hold on its request."""

    __slots__ = ("_queue", "_request", "future")

    def __init__(self, request: PendingRequest, queue: BatchQueue[PendingRequest]) -> None:
        self.future = request.future
        self._request = request
        self._queue = queue

    @property
    def queued(self) -> bool:
        """Whether it waits, and does not run yet."""
        return self._request.queued

    def abandon(self) -> None:
        """Nobody waits for it any more: it takes no room from now on, and never runs unless it does already."""
        self.future.cancel()
        if self._request.queued:
            self._queue.release(self._request)
            self._request.tensors = {}
