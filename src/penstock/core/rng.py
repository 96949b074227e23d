"""Randomness. The only module that makes a source of it."""

import os
import secrets
from typing import Final

import numpy as np

__all__ = ["Rng", "Tokens", "secret_bytes", "seeded", "unique_token", "unit_random"]

Rng = np.random.Generator
"""A source that gives the same numbers again for the same seed."""

TOKEN_BYTES: Final = 16
_system = secrets.SystemRandom()


def secret_bytes(length_bytes: int = 32) -> bytes:
    """A key that nobody can guess."""
    return secrets.token_bytes(length_bytes)


def unique_token(length_bytes: int = TOKEN_BYTES) -> str:
    """A hexadecimal name that no other process makes: for temporary files and request ids."""
    return secrets.token_hex(length_bytes)


class Tokens:
    """Makes what `unique_token` does, as hard to guess, for who needs one for each of many requests: the
    randomness of many is asked of the system at once. Thread-safe; a process that was forked makes others.
    """

    def __init__(self, at_once: int = 256) -> None:
        self._at_once = at_once
        self._pid = 0
        self._left: list[str] = []

    def next(self) -> str:
        pid = os.getpid()
        try:
            if pid == self._pid:
                return self._left.pop()
        except IndexError:
            pass
        drawn = secrets.token_bytes(TOKEN_BYTES * self._at_once).hex()
        digits = 2 * TOKEN_BYTES
        left = [drawn[start : start + digits] for start in range(0, len(drawn), digits)]
        token = left.pop()
        self._left, self._pid = left, pid
        return token


def unit_random() -> float:
    """Drawn evenly from 0 to below 1, by nobody foreseen: for jitter and for choices between equals."""
    return _system.random()


def seeded(seed: int) -> Rng:
    """For loads and simulations that have to be repeatable; never for secrets."""
    return np.random.default_rng(seed)
