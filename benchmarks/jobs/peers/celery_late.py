"""Celery on Redis, with its defaults: a worker that calls the model, and a client that submits and fetches.

`celery -A celery_late worker` is the worker. `python celery_late.py JOBS THREADS` is the client: it sends so
many tasks from so many threads, waits for all results, checks them, and prints what it measured as JSON.
"""

import json
import os
import statistics
import sys
import threading
import time
from pathlib import Path

import numpy as np
from celery import Celery

URL = os.environ["BENCH_REDIS"]
FOLDER = Path(os.environ["BENCH_MODEL"])

app = Celery("celery_late", broker=f"{URL}/0", backend=f"{URL}/1")
_sessions = {}


@app.task
def late(row):
    """The probability that a flight is late."""
    if "late" not in _sessions:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        _sessions["late"] = onnxruntime.InferenceSession(
            str(FOLDER / "late.onnx"), options, providers=["CPUExecutionProvider"]
        )
    x = np.array([row], dtype=np.float32)
    *_, probabilities = _sessions["late"].run(None, {"x": x})
    return float(probabilities[0, 1])


def main() -> None:
    jobs, threads = int(sys.argv[1]), int(sys.argv[2])
    asked = json.loads((FOLDER / "asked.json").read_text())
    rows, answers = asked["features"], asked["probabilities"]
    results = [None] * jobs
    latencies_s = [0.0] * jobs

    def submit(thread: int) -> None:
        for number in range(thread, jobs, threads):
            sent_s = time.perf_counter()
            results[number] = late.delay(rows[number % len(rows)])
            latencies_s[number] = time.perf_counter() - sent_s

    def each(work) -> None:
        running = [threading.Thread(target=work, args=(thread,)) for thread in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()

    late.delay(rows[0]).get(timeout=60)
    begun_s = time.perf_counter()
    each(submit)
    submitting_s = time.perf_counter() - begun_s
    wrong = 0
    for number, result in enumerate(results):
        wrong += abs(result.get(timeout=60) - answers[number % len(answers)]) > 1e-4
    in_all_s = time.perf_counter() - begun_s
    print(
        json.dumps(
            {
                "submitting_s": submitting_s,
                "in_all_s": in_all_s,
                "wrong": int(wrong),
                "p99_ms": statistics.quantiles(latencies_s, n=100)[98] * 1000,
            }
        )
    )


if __name__ == "__main__":
    main()
