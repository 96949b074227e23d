import asyncio
import gc
import io
import threading
import weakref
from concurrent.futures import Future

import numpy as np
import polars as pl
import pytest

from penstock.core.clock import ManualClock
from penstock.core.errors import ModelFailed, StorageFailed
from penstock.core.signature import Signature
from penstock.core.tensors import DataType
from penstock.features.reader import Reading
from penstock.features.view import Feature, FeatureView, KeyColumn
from penstock.observe.metrics import Counter
from penstock.serving.batching.outputs import BatchOutputs, BatchRows
from penstock.serving.features.filling import filling_of
from penstock.serving.features.served_log import ROWS_WAITING_MAX, ServedLog
from penstock.serving.features.vectors import key_output_name, output_name, pack_vectors
from penstock.serving.inference import Inference

VIEW = FeatureView(
    name="legs",
    keys=(KeyColumn(name="origin", datatype=DataType.STRING),),
    features=(Feature(name="delay", datatype=DataType.FP64, default=2.5),),
    topic="t",
)
FILLING = filling_of("late", Signature.of(inputs={"delay": "FP64[-1]"}, outputs={"y": "FP64[-1]"}), [VIEW], {})
PATIENCE_S = 30.0


class Appended:
    """What is appended, once `gate` is open; or `error`."""

    def __init__(self) -> None:
        self.frames: list[tuple[str, pl.DataFrame]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.begun = threading.Semaphore(0)

    def __call__(self, topic, records):
        self.begun.release()
        assert self.gate.wait(PATIENCE_S)
        done: Future[int] = Future()
        if self.error is not None:
            done.set_exception(self.error)
        else:
            self.frames += [(topic, pl.read_ipc_stream(io.BytesIO(value))) for value in records.values]
            done.set_result(0)
        return done


@pytest.fixture
def appended():
    return Appended()


@pytest.fixture
def counters():
    return Counter(), Counter()


@pytest.fixture
def served(appended, counters):
    log = ServedLog(appended, ManualClock(), recorded=counters[0], lost=counters[1])
    yield log
    appended.gate.set()
    log.close()


def batch(rows: int, rung: str = "") -> BatchOutputs:
    values = np.arange(rows, dtype=np.float64)
    reading = Reading([values], [values < 0], np.arange(rows), np.full(rows, 1000), np.zeros(rows, np.bool_))
    origins = np.array([f"origin {number}" for number in range(rows)], dtype=object)
    outputs = {"y": values, output_name(VIEW): pack_vectors(reading), key_output_name("origin"): origins}
    return BatchOutputs(outputs, rung)


def answer(recorder, prediction: str, outputs: BatchOutputs, start: int, stop: int, first_row: int = 0) -> None:
    async def ended() -> None:
        future = asyncio.get_running_loop().create_future()
        future.set_result(BatchRows(outputs, start, stop))
        inference = Inference({}, 0.0, 1.0, prediction=prediction, first_row=first_row)
        recorder.answered(inference, future)

    asyncio.run(ended())


def recorder_of(served, topic="app.late.served", version="1"):
    return served.recorder(topic=topic, version=version, filling=FILLING)


def test_what_was_answered_is_appended_by_model_and_version(served, appended, counters):
    shared = batch(5)
    one, two = recorder_of(served), recorder_of(served, version="2")
    other = recorder_of(served, "app.other.served")
    answer(one, "a", shared, 0, 2)
    answer(two, "b", shared, 2, 3)
    answer(one, "c", shared, 3, 5, first_row=10)
    answer(other, "d", batch(1), 0, 1)

    served.close()

    found = pl.concat([frame for topic, frame in appended.frames if topic == "app.late.served"])
    kept = ["prediction.id", "prediction.row", "prediction.version", "origin", "legs.position", "delay"]
    assert sorted(found.select(kept).rows()) == [
        ("a", 0, "1", "origin 0", 0, 0.0),
        ("a", 1, "1", "origin 1", 1, 1.0),
        ("b", 0, "2", "origin 2", 2, 2.0),
        ("c", 10, "1", "origin 3", 3, 3.0),
        ("c", 11, "1", "origin 4", 4, 4.0),
    ]
    assert [frame.height for topic, frame in appended.frames if topic == "app.other.served"] == [1]
    assert (counters[0].value, counters[1].value) == (6, 0)


def test_what_has_no_answer_of_the_model_is_not_recorded(served, appended):
    recorder = recorder_of(served)

    async def ended() -> None:
        cancelled, failed = (asyncio.get_running_loop().create_future() for _ in range(2))
        cancelled.cancel()
        failed.set_exception(ModelFailed("it broke"))
        for future in (cancelled, failed):
            recorder.answered(Inference({}, 0.0, 1.0, prediction="no"), future)

    asyncio.run(ended())
    answer(recorder, "no", batch(2, rung="constant"), 0, 2)
    served.close()

    assert appended.frames == []


def test_more_than_may_wait_is_lost_and_counted_and_nobody_waits_for_the_log(served, appended, counters):
    appended.gate.clear()
    recorder, many = recorder_of(served), batch(ROWS_WAITING_MAX)
    answer(recorder, "first", many, 0, ROWS_WAITING_MAX)
    assert appended.begun.acquire(timeout=PATIENCE_S)
    answer(recorder, "lost", many, 0, 3)
    assert counters[1].value == 3

    appended.gate.set()
    served.close()

    assert sum(frame.height for _, frame in appended.frames) == ROWS_WAITING_MAX
    assert (counters[0].value, counters[1].value) == (ROWS_WAITING_MAX, 3)


def test_what_cannot_be_appended_is_lost_and_counted_and_the_next_is_tried(served, appended, counters, caplog):
    appended.error = StorageFailed("the disk is full")
    recorder = recorder_of(served)
    answer(recorder, "lost", batch(2), 0, 2)
    assert appended.begun.acquire(timeout=PATIENCE_S)
    while not counters[1].value:  # its thread has the error a moment later
        threading.Event().wait(0.001)
    appended.error = None
    answer(recorder, "kept", batch(2), 0, 2)

    served.close()

    assert (counters[0].value, counters[1].value) == (2, 2)
    assert "the disk is full" in caplog.text


def test_nothing_is_taken_once_it_is_closed(served, counters):
    recorder = recorder_of(served)
    served.close()
    answer(recorder, "late", batch(2), 0, 2)
    assert counters[1].value == 2


@pytest.mark.parametrize(("rows_max", "bytes_max"), [(7, 10**9), (10**9, 400), (10**9, 1)])
def test_much_is_written_in_records_that_the_log_takes_and_no_row_is_lost(
    served, appended, counters, monkeypatch, rows_max, bytes_max
):
    monkeypatch.setattr("penstock.serving.features.served_log.FRAME_ROWS_MAX", rows_max)
    monkeypatch.setattr("penstock.serving.features.served_log.FRAME_BYTES_MAX", bytes_max)
    appended.gate.clear()
    recorder, many = recorder_of(served), batch(40)
    answer(recorder, "a", many, 0, 1)
    assert appended.begun.acquire(timeout=PATIENCE_S)
    answer(recorder, "b", many, 1, 30)
    answer(recorder, "c", many, 30, 40, first_row=5)

    appended.gate.set()
    served.close()

    frames = [frame for _, frame in appended.frames]
    assert max(frame.height for frame in frames) <= min(rows_max, max(bytes_max // 20, 1))
    found = pl.concat(frames).select("prediction.id", "prediction.row", "origin", "legs.position")
    owners = [("a", 0), *[("b", row) for row in range(29)], *[("c", row + 5) for row in range(10)]]
    assert found.rows() == [(*owner, f"origin {row}", row) for row, owner in enumerate(owners)]
    assert (counters[0].value, counters[1].value) == (40, 0)


def test_more_bytes_than_may_wait_are_lost_and_counted(served, appended, counters, monkeypatch):
    monkeypatch.setattr("penstock.serving.features.served_log.BYTES_WAITING_MAX", 5000)
    appended.gate.clear()
    recorder, many = recorder_of(served), batch(30)
    answer(recorder, "kept", many, 0, 10)
    assert appended.begun.acquire(timeout=PATIENCE_S)
    answer(recorder, "x" * 3000, many, 0, 1)
    assert counters[1].value == 1

    appended.gate.set()
    served.close()

    assert (counters[0].value, counters[1].value) == (10, 1)


def test_nothing_of_a_request_is_held_but_what_is_recorded(served, appended):
    """Its other inputs may be large."""

    class Large(np.ndarray):
        """An array to which there are weak references."""

    appended.gate.clear()
    recorder, outputs = recorder_of(served), batch(1)
    answer(recorder, "first", outputs, 0, 1)
    assert appended.begun.acquire(timeout=PATIENCE_S)
    large = np.zeros(10).view(Large)
    held = weakref.ref(large)
    tensors = {"origin": np.array(["a"], dtype=object), "image": large}
    answered = BatchOutputs({**outputs.tensors, "other": large}, "")

    async def ended(tensors, answered) -> None:
        future = asyncio.get_running_loop().create_future()
        future.set_result(BatchRows(answered, 0, 1))
        recorder.answered(Inference(tensors, 0.0, 1.0, prediction="p"), future)

    asyncio.run(ended(tensors, answered))
    del large, tensors, answered
    gc.collect()

    assert held() is None
