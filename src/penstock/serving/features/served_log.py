"""What was served: the features of each prediction, appended to a topic off the request path."""

import asyncio
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Final, Protocol

import numpy as np

from penstock.core.clock import Clock
from penstock.core.errors import PenstockError
from penstock.core.tensors import Tensors
from penstock.features.timeline import Ints
from penstock.log.records import Records
from penstock.observe.metrics import Counter
from penstock.serving.batching.outputs import BatchRows
from penstock.serving.features.filling import Filling
from penstock.serving.features.served_frame import (
    ServedBatch,
    ServedRows,
    ServedShare,
    encode_frame,
    frame_of,
    served_batch,
    served_rows,
)
from penstock.serving.features.vectors import output_name
from penstock.serving.inference import Inference

__all__ = ["ServedAppend", "ServedLog", "ServedRecorder"]

log = logging.getLogger(__name__)

ROWS_WAITING_MAX = 100_000
BYTES_WAITING_MAX = 64 * 1024 * 1024
FRAME_ROWS_MAX: Final = 20_000
FRAME_BYTES_MAX: Final = 8 * 1024 * 1024
SHARE_BYTES = 150
"""What Python takes for one answer that waits, about, beside its rows and its id."""
WRITE_EVERY_S = 0.25
TOLD_EVERY_S = 60.0
CLOSE_S_MAX = 2.0
APPEND_S_MAX = 30.0


class ServedAppend(Protocol):
    """Appends to a topic, which it makes where it is missing. Raises `PenstockError`."""

    def __call__(self, topic: str, records: Records) -> "Future[int]": ...


class ServedRecorder:
    """Of one version: takes what was answered, in the event loop."""

    def __init__(self, served: "ServedLog", *, topic: str, version: str, filling: Filling) -> None:
        self._served = served
        self.topic = topic
        self.version = version
        self.filling = filling
        self.first_vectors = output_name(filling.uses[0].view)

    def answered(self, inference: Inference, answer: "asyncio.Future[BatchRows]") -> None:
        """A request has its answer, or has none. What another rung answered was made from no features."""
        if answer.cancelled() or answer.exception() is not None:
            return
        outputs, start, stop = answer.result()
        if not outputs.rung:
            share = ServedShare(inference.prediction, inference.first_row, start, stop)
            self._served.add(self, outputs.tensors, share)


class ServedLog:
    """A thread that appends what was answered. It holds so many rows and bytes at most; what comes beyond that,
    and what cannot be appended, is counted as `lost`.
    """

    def __init__(self, append: ServedAppend, clock: Clock, *, recorded: Counter, lost: Counter) -> None:
        self._append = append
        self._clock = clock
        self._recorded = recorded
        self._lost = lost
        self._waiting: list[tuple[ServedRecorder, ServedBatch]] = []
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

    def add(self, recorder: ServedRecorder, outputs: Tensors, share: ServedShare) -> None:
        """Of a batch that gave these outputs. Does not block."""
        rows = share.stop - share.start
        with self._arrived:
            if self._closing or self._rows + rows > ROWS_WAITING_MAX:
                self._lost.value += rows
                return
            if not self._is_last(recorder, outputs):
                batch = served_batch(recorder.filling, self.now_ms(), outputs)
                size = batch.size_bytes
                if self._bytes + size > BYTES_WAITING_MAX:
                    self._lost.value += rows
                    return
                self._waiting.append((recorder, batch))
                self._bytes += size
            size = len(share.prediction) + SHARE_BYTES
            if self._bytes + size > BYTES_WAITING_MAX:
                self._lost.value += rows
                return
            self._waiting[-1][1].shares.append(share)
            self._rows += rows
            self._bytes += size
            if self._rows >= FRAME_ROWS_MAX:
                self._arrived.notify()

    def _is_last(self, recorder: ServedRecorder, outputs: Tensors) -> bool:
        """Whether the last batch that waits gave these: the shares of one are added one after the other."""
        if not self._waiting:
            return False
        last, batch = self._waiting[-1]
        return last is recorder and batch.vectors[0] is outputs[recorder.first_vectors]

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
                taken, closing = self._waiting, self._closing
                rows, size = self._rows, self._bytes
                self._waiting = []
            self._write(taken)
            with self._arrived:
                self._rows -= rows
                self._bytes -= size
            if closing:
                return

    def _write(self, taken: list[tuple[ServedRecorder, ServedBatch]]) -> None:
        by_recorder: dict[ServedRecorder, list[ServedBatch]] = {}
        for recorder, batch in taken:
            if batch.shares:
                by_recorder.setdefault(recorder, []).append(batch)
        for recorder, batches in by_recorder.items():
            served = served_rows(batches)
            for start, stop in _parts(served.sizes):
                self._write_part(recorder, served, start, stop)

    def _write_part(self, recorder: ServedRecorder, served: ServedRows, start: int, stop: int) -> None:
        try:
            records = _records(recorder, served, start, stop)
            self._append(recorder.topic, records).result(APPEND_S_MAX)
        except Exception as error:
            self._lose(recorder, stop - start, error)
        else:
            self._count(self._recorded, stop - start)

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


def _parts(sizes: Ints) -> Iterator[tuple[int, int]]:
    """Of rows of these bytes, from which to which are one record: as many as it may have."""
    start, ends = 0, np.cumsum(sizes)
    while start < len(sizes):
        before = int(ends[start - 1]) if start else 0
        fitting = int(np.searchsorted(ends, before + FRAME_BYTES_MAX, "right"))
        stop = min(max(fitting, start + 1), start + FRAME_ROWS_MAX, len(sizes))
        yield start, stop
        start = stop


def _records(recorder: ServedRecorder, served: ServedRows, start: int, stop: int) -> Records:
    """One record, of a frame of all rows."""
    value = encode_frame(frame_of(recorder.filling, recorder.version, served, start, stop))
    return Records(values=[value], times_ms=served.times_ms[stop - 1 : stop])
