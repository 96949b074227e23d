"""Randomness. The only module that makes a source of it."""

import secrets

import numpy as np

__all__ = ["Rng", "secret_bytes", "seeded", "unique_token", "unit_random"]

Rng = np.random.Generator
"""A source that gives the same numbers again for the same seed."""

_system = secrets.SystemRandom()


def secret_bytes(length_bytes: int = 32) -> bytes:
    """A key that nobody can guess."""
    return secrets.token_bytes(length_bytes)


def unique_token(length_bytes: int = 16) -> str:
    """A hexadecimal name that no other process makes: for temporary files and request ids."""
    return secrets.token_hex(length_bytes)


def unit_random() -> float:
    """Drawn evenly from 0 to below 1, by nobody foreseen: for jitter and for choices between equals."""
    return _system.random()


def seeded(seed: int) -> Rng:
    """For loads and simulations that have to be repeatable; never for secrets."""
    return np.random.default_rng(seed)
