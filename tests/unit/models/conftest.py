"""Data that models are fitted on: a matrix with NaN in places, and a frame with text, flags and numbers."""

import msgspec
import numpy as np
import polars as pl
import pytest

ROWS = 2_000


class Data(msgspec.Struct, frozen=True):
    """Features with a target of numbers and of two and three classes."""

    matrix: np.ndarray
    values: np.ndarray
    binary: np.ndarray
    letters: np.ndarray


@pytest.fixture(scope="session")
def data() -> Data:
    rng = np.random.default_rng(7)
    matrix = rng.normal(size=(ROWS, 5))
    values = 2 * matrix[:, 0] + np.sin(3 * matrix[:, 1]) + matrix[:, 2] * matrix[:, 3]
    letters = np.array(["a", "b", "c"])[np.digitize(values, [-1, 1])]
    return Data(matrix=matrix, values=values, binary=(values > 0).astype(np.int64), letters=letters)


@pytest.fixture(scope="session")
def with_nan(data: Data) -> np.ndarray:
    holes = data.matrix.copy()
    holes[np.random.default_rng(8).random(holes.shape) < 0.1] = np.nan
    return holes


@pytest.fixture(scope="session")
def flights() -> pl.DataFrame:
    rng = np.random.default_rng(9)
    distance = rng.normal(500, 100, ROWS)
    hour = rng.integers(0, 24, ROWS)
    carrier = rng.choice(["AA", "UA", "DL"], ROWS)
    return pl.DataFrame(
        {
            "distance": distance,
            "hour": hour,
            "night": rng.random(ROWS) < 0.5,
            "carrier": carrier,
            "origin": rng.choice(["JFK", "LGA"], ROWS),
            "late": ((hour > 12) ^ (carrier == "AA")).astype(np.int64),
            "delay": distance / 50 + hour + (carrier == "UA"),
        }
    )
