"""What has to come out, computed one event at a time and without any of what is compared."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.streams.peers.contest import OVER_TILES, TILE_MS, Model, Results, checksum

__all__ = ["Oracle", "window_features"]

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Oracle:
    """The results of a whole file of events; those of its first events are the first of its results."""

    flight_id: Numbers
    window: npt.NDArray[np.float64]
    probability: npt.NDArray[np.float32]

    @classmethod
    def of(cls, events: Path, model: Path) -> "Oracle":
        """Computed once, and kept beside the events until they or the model are newer."""
        kept = events.with_suffix(".oracle.npz")
        newest_s = max(events.stat().st_mtime, model.stat().st_mtime)
        if not kept.exists() or kept.stat().st_mtime <= newest_s:
            flight_id, features = window_features(events)
            probability = Model(str(model)).probabilities(features.astype(np.float32))
            np.savez(kept, flight_id=flight_id, window=features[:, 3:], probability=probability)
        with np.load(kept) as seen:
            return cls(**{name: seen[name] for name in ("flight_id", "window", "probability")})

    def checksum(self, events: int) -> dict[str, object]:
        """Of what the first `events` give. Flights are numbered in the order of the file."""
        end = int(np.searchsorted(self.flight_id, events))
        departures, mean, worst = self.window[:end].T
        return checksum(Results(self.flight_id[:end], departures, mean, worst, self.probability[:end]))


def window_features(events: Path) -> tuple[Numbers, npt.NDArray[np.float64]]:
    """Of each flight with a delay its number, and the features of the model in their order.

    Of the earlier events of an origin and carrier all are looked at from the newest on, until one is older than
    the window.
    """
    earlier: dict[tuple[str, str], list[tuple[int, int]]] = {}
    flights, rows = [], []
    for line in events.read_bytes().splitlines():
        event = json.loads(line)
        delay = event["dep_delay"]
        if delay is None:
            continue
        tile = event["departed_at"] // TILE_MS
        seen = earlier.setdefault((event["origin"], event["carrier"]), [])
        seen.append((tile, delay))
        count, total, worst = 0, 0, delay
        for its_tile, its_delay in reversed(seen):
            if its_tile <= tile - OVER_TILES:
                break
            count, total, worst = count + 1, total + its_delay, max(worst, its_delay)
        flights.append(event["flight_id"])
        rows.append((delay, event["distance"], event["hour"], count, total / count, worst))
    return np.array(flights, dtype=np.int64), np.array(rows, dtype=np.float64)
