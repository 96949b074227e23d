"""Randomness, passed in. The only module that makes a source of it."""

import random
import secrets

import numpy as np

__all__ = ["Rng", "numpy_rng", "seeded_rng", "unique_token"]

Rng = random.Random


def seeded_rng(seed: int | None = None) -> Rng:
    """A source of random numbers; the same `seed` gives the same numbers, None an unpredictable start."""
    return random.Random(seed)


def numpy_rng(seed: int) -> np.random.Generator:
    """The same for arrays."""
    return np.random.default_rng(seed)


def unique_token(length_bytes: int = 16) -> str:
    """A hexadecimal name that no other process makes: for temporary files and request ids."""
    return secrets.token_hex(length_bytes)
