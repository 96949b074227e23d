"""The keys that all stores have, and what each holds of them: the same for all."""

import numpy as np
import numpy.typing as npt

__all__ = ["FEATURES", "asked_keys", "key_of", "value_of"]

FEATURES = ("departures", "mean_delay", "worst_delay")


def key_of(number: int) -> str:
    return f"key-{number:07d}"


def value_of(numbers: npt.NDArray[np.int64], place: int) -> npt.NDArray[np.float64]:
    """Of keys by number, the feature at that place in `FEATURES`."""
    return numbers * 0.5 + place


def asked_keys(keys: int, rows: int, *, seed: int) -> npt.NDArray[np.int64]:
    """Numbers of keys drawn at random, evenly."""
    return np.random.default_rng(seed).integers(0, keys, rows)
