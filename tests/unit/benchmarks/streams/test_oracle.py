"""What a window of an hour by steps of five minutes holds as of each event."""

import json
import os

import numpy as np
from benchmarks.streams.oracle import Oracle, window_features
from benchmarks.streams.peers.contest import checksum, results_of_rows

MINUTE_MS = 60_000
EVENTS = [
    # Minute, delay, carrier
    (4, 10, "UA"),
    (4, 30, "UA"),
    (5, None, "UA"),
    (6, 99, "B6"),
    (59, -4, "UA"),
    (60, 2, "UA"),
]


def write(path):
    lines = [
        json.dumps(
            {"flight_id": number, "departed_at": minute * MINUTE_MS, "dep_delay": delay, "carrier": carrier,
             "origin": "EWR", "distance": 100, "hour": 5}
        )
        for number, (minute, delay, carrier) in enumerate(EVENTS)
    ]  # fmt: skip
    path.write_text("\n".join(lines) + "\n")
    return path


def test_windows_end_with_the_step_of_the_event_and_hold_what_came_before_it(tmp_path):
    flights, features = window_features(write(tmp_path / "events"))

    assert flights.tolist() == [0, 1, 3, 4, 5]
    # Count, mean and worst. At minute 60 the step of the first two, minutes 0 to 4, has left the window.
    assert features[:, 3:].tolist() == [[1, 10, 10], [2, 20, 30], [1, 99, 99], [3, 12, 30], [2, -1, 2]]


def test_the_first_events_give_the_first_results():
    oracle = Oracle(
        flight_id=np.array([0, 1, 3]),
        window=np.array([[1, 10, 10], [2, 20, 30], [1, 99, 99]]),
        probability=np.array([0.5, 0.25, 0.75]),
    )

    assert oracle.checksum(3) == checksum(results_of_rows([(0, 1, 10, 10, 0.5), (1, 2, 20, 30, 0.25)]))


def test_it_is_kept_until_the_events_change(tmp_path, monkeypatch):
    events, model = write(tmp_path / "events.ndjson"), tmp_path / "late.onnx"
    model.touch()
    scored = []

    class Scorer:
        def __init__(self, path):
            scored.append(path)

        def probabilities(self, features):
            return features[:, 0]

    monkeypatch.setattr("benchmarks.streams.oracle.Model", Scorer)
    first, again = Oracle.of(events, model), Oracle.of(events, model)

    assert len(scored) == 1
    assert first.checksum(9) == again.checksum(9)

    os.utime(events, (4e9, 4e9))
    Oracle.of(events, model)
    assert len(scored) == 2
