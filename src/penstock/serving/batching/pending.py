"""A request that waits for its batch, and its caller's hold on it."""

import asyncio
from typing import Protocol

from penstock.core.tensors import Tensors, slice_rows
from penstock.serving.batching.lane import ShapeKey
from penstock.serving.batching.outputs import BatchRows, join_rows
from penstock.serving.batching.queue import BatchQueue

__all__ = ["Answer", "PendingAnswer", "PendingRequest"]


class PendingRequest:
    """A request that waits or runs, and its caller's future; or a part of one, which shares that future.

    `waiting_since_s` is when it came, or when the part before it was answered.
    """

    __slots__ = (
        "answers",
        "arrived_s",
        "begun",
        "criticality",
        "deadline_s",
        "due_s",
        "future",
        "part_of",
        "queued",
        "rows",
        "shape_key",
        "size_bytes",
        "tensors",
        "waiting_since_s",
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
        self.begun = False
        """Whether there is a part before this one."""
        self.waiting_since_s = arrived_s
        self.part_of: PendingRequest | None = None
        self.answers: list[BatchRows] | None = None
        """What its parts gave so far."""

    @property
    def abandoned(self) -> bool:
        return self.future.done()

    @property
    def whole(self) -> "PendingRequest":
        """What it is a part of, or itself."""
        return self if self.part_of is None else self.part_of

    def split(self, rows: int) -> "PendingRequest":
        """Its first `rows`, fewer than all, as a request of their own; this one keeps the others."""
        size_bytes = self.size_bytes * rows // self.rows
        part = PendingRequest(
            slice_rows(self.tensors, 0, rows),
            rows,
            size_bytes,
            self.arrived_s,
            self.deadline_s,
            self.due_s,
            self.criticality,
            self.shape_key,
            self.future,
        )
        part.waiting_since_s = self.waiting_since_s
        part.part_of = self
        part.begun = self.begun
        self.begun = True
        self.tensors = slice_rows(self.tensors, rows, self.rows)
        self.rows -= rows
        self.size_bytes -= size_bytes
        return part

    def take(self, rows: BatchRows, now_s: float) -> BatchRows | None:
        """Keeps what it gave; what its caller gets, None where further parts are to come.

        Raises `ValueError` for parts that do not fit together.
        """
        whole = self.part_of
        if whole is not None:
            if whole.answers is None:
                whole.answers = []
            whole.answers.append(rows)
            whole.waiting_since_s = now_s
            return None
        return rows if self.answers is None else join_rows([*self.answers, rows])


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
        """Whether it waits, and no part of it has run yet."""
        return self._request.queued and not self._request.begun

    def abandon(self) -> None:
        """Nobody waits for it any more: it takes no room from now on, and never runs unless it does already."""
        self.future.cancel()
        if self._request.queued:
            self._queue.release(self._request)
            self._request.tensors = {}
