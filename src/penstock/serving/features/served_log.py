"""What was served: the features of each prediction, appended to a topic off the request path."""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from typing import Final, NamedTuple, Protocol

import numpy as np

from penstock.core.clock import Clock
from penstock.core.errors import PenstockError
from penstock.log.records import Records
from penstock.observe.metrics import Counter
from penstock.serving.batching.outputs import BatchRows
from penstock.serving.features.filling import Filling
from penstock.serving.features.served_frame import ServedRows, encode_frame, frame_of, served_rows
from penstock.serving.inference import Inference

__all__ = ["ServedAppend", "ServedLog", "ServedRecorder"]

log = logging.getLogger(__name__)

ROWS_WAITING_MAX = 100_000
BYTES_WAITING_MAX = 64 * 1024 * 1024
FRAME_ROWS_MAX: Final = 20_000
FRAME_BYTES_MAX: Final = 8 * 1024 * 1024
WRITE_EVERY_S = 0.25
TOLD_EVERY_S = 60.0
CLOSE_S_MAX = 2.0
APPEND_S_MAX = 30.0


class ServedAppend(Protocol):
    """Appends to a topic, which it makes where it is missing. Raises `PenstockError`."""

    def __call__(self, topic: str, records: Records) -> "Future[int]": ...


class _Answered(NamedTuple):
    """What is recorded of one request, and how many bytes that is, about."""

    recorder: "ServedRecorder"
    served: ServedRows
    size: int


class ServedRecorder:
    """Of one version: takes what was answered, in the event loop."""

    def __init__(self, served: "ServedLog", *, topic: str, version: str, filling: Filling) -> None:
        self._served = served
        self.topic = topic
        self.version = version
        self.filling = filling

    def answered(self, inference: Inference, answer: "asyncio.Future[BatchRows]") -> None:
        """A request has its answer, or has none. What another rung answered was made from no features."""
        if answer.cancelled() or answer.exception() is not None:
            return
        rows = answer.result()
        if not rows.outputs.rung:
            served = served_rows(
                self.filling, inference, self._served.now_ms(), rows.outputs.tensors, *rows[1:]
            )
            self._served.add(_Answered(self, served, served.size))


class ServedLog:
    """A thread that appends what was answered. It holds so many rows and bytes at most; what comes beyond that,
    and what cannot be appended, is counted as `lost`.
    """

    def __init__(self, append: ServedAppend, clock: Clock, *, recorded: Counter, lost: Counter) -> None:
        self._append = append
        self._clock = clock
        self._recorded = recorded
        self._lost = lost
        self._waiting: deque[_Answered] = deque()
        self._rows = 0
        self._bytes = 0
        self._arrived = threading.Condition()
        self._closing = False
        self._told_s = float("-inf")
        self._thread = threading.Thread(target=self._run, name="served-log", daemon=True)
        self._thread.start()

    def recorder(self, *, topic: str, version: str, filling: Filling) -> ServedRecorder:
        return ServedRecorder(self, topic=topic, version=version, filling=filling)

    def now_ms(self) -> int:
        return int(self._clock.now().timestamp() * 1000)

    def add(self, answered: _Answered) -> None:
        """Does not block."""
        rows = answered.served.rows
        with self._arrived:
            many = self._rows + rows > ROWS_WAITING_MAX or self._bytes + answered.size > BYTES_WAITING_MAX
            if many or self._closing:
                self._lost.value += rows
                return
            self._waiting.append(answered)
            self._rows += rows
            self._bytes += answered.size
            if self._rows >= FRAME_ROWS_MAX:
                self._arrived.notify()

    def close(self) -> None:
        """Appends what waits, for as long as a process that ends may take for it."""
        with self._arrived:
            self._closing = True
            self._arrived.notify()
        self._thread.join(CLOSE_S_MAX)

    def _run(self) -> None:
        while True:
            with self._arrived:
                self._arrived.wait_for(lambda: self._closing or self._rows >= FRAME_ROWS_MAX, WRITE_EVERY_S)
                taken, closing = list(self._waiting), self._closing
                self._waiting.clear()
            self._write(taken)
            with self._arrived:
                self._rows -= sum(each.served.rows for each in taken)
                self._bytes -= sum(each.size for each in taken)
            if closing:
                return

    def _write(self, taken: list[_Answered]) -> None:
        by_recorder: dict[ServedRecorder, list[_Answered]] = {}
        for each in taken:
            by_recorder.setdefault(each.recorder, []).append(each)
        for recorder, answered in by_recorder.items():
            for part in _parts(answered):
                self._write_part(recorder, part)

    def _write_part(self, recorder: ServedRecorder, part: list[ServedRows]) -> None:
        rows = sum(each.rows for each in part)
        try:
            self._append(recorder.topic, _records(recorder, part)).result(APPEND_S_MAX)
        except Exception as error:
            self._lose(recorder, rows, error)
        else:
            self._count(self._recorded, rows)

    def _lose(self, recorder: ServedRecorder, rows: int, error: Exception) -> None:
        """Nothing may end this thread: nobody would hear of what is lost from then on."""
        self._count(self._lost, rows)
        now_s = self._clock.monotonic()
        if now_s - self._told_s >= TOLD_EVERY_S:
            self._told_s = now_s
            expected = isinstance(error, PenstockError | TimeoutError)
            log.error(
                "%s: what was served is not recorded", recorder.topic, exc_info=None if expected else error
            )
            log.error("%s", error)

    def _count(self, counter: Counter, rows: int) -> None:
        with self._arrived:
            counter.value += rows


def _parts(answered: Sequence[_Answered]) -> Iterator[list[ServedRows]]:
    """As many rows and bytes together as one record may have, in their order."""
    part: list[ServedRows] = []
    rows = size = 0
    for each in answered:
        row_size = each.size / max(each.served.rows, 1)
        start = 0
        while start < each.served.rows:
            left = min(FRAME_ROWS_MAX - rows, int((FRAME_BYTES_MAX - size) / max(row_size, 1)))
            if left < 1 and part:
                yield part
                part, rows, size = [], 0, 0
                continue
            stop = min(start + max(left, 1), each.served.rows)
            whole = stop - start == each.served.rows
            part.append(each.served if whole else each.served.cut(start, stop))
            rows, size = rows + stop - start, size + int(row_size * (stop - start))
            start = stop
    if part:
        yield part


def _records(recorder: ServedRecorder, part: Sequence[ServedRows]) -> Records:
    """One record, of a frame of all rows."""
    value = encode_frame(frame_of(recorder.filling, recorder.version, part))
    return Records(values=[value], times_ms=np.array([part[-1].time_ms], np.int64))
