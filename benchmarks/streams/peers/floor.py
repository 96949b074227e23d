"""The limit: decoding into structs and the model alone, on rows that lie ready. Nothing is windowed."""

import time

import msgspec
import numpy as np

from benchmarks.streams.peers.contest import Contest, Departure, Model, Outcome, Results, compete

FIELDS = ("dep_delay", "distance", "hour")
CHUNK = 500


def features_of(contest: Contest) -> np.ndarray:
    """Rows to score, as many as flights have a delay; what stands for the window is of about its size."""
    decoded = map(msgspec.json.Decoder(Departure).decode, contest.events)
    left = [event for event in decoded if event.dep_delay is not None]
    columns = [[getattr(event, name) for event in left] for name in FIELDS]
    delays = np.array(columns[0], dtype=np.float32)
    count = 1 + np.arange(len(left), dtype=np.float32) % 9
    window = [count, np.convolve(delays, np.ones(5) / 5, "same"), np.maximum(delays, np.roll(delays, 1))]
    return np.column_stack([*columns, *window]).astype(np.float32)


def run(contest: Contest) -> Outcome:
    decode = msgspec.json.Decoder(Departure).decode
    model = Model(contest.model)
    features = features_of(contest)
    share = len(features) / len(contest.events)
    begun_s = time.perf_counter()
    for begin in range(0, len(contest.events), CHUNK):
        list(map(decode, contest.events[begin : begin + CHUNK]))
    for begin in range(0, len(features), round(contest.frame * share)):
        model.probabilities(features[begin : begin + round(contest.frame * share)])
    return Outcome(Results([], [], [], [], []), seconds=time.perf_counter() - begun_s)


if __name__ == "__main__":
    compete(run)
