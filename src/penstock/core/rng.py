"""Randomness. The only module that makes a source of it."""

import secrets

__all__ = ["unique_token"]


def unique_token(length_bytes: int = 16) -> str:
    """A hexadecimal name that no other process makes: for temporary files and request ids."""
    return secrets.token_hex(length_bytes)
