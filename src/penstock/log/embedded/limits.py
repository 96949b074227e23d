"""The bounds of an embedded log."""

from dataclasses import dataclass

__all__ = ["LogLimits"]


@dataclass(frozen=True, kw_only=True)
class LogLimits:
    """What a log allows. Every process that opens the same log should say the same `lease_s`."""

    lease_s: float = 10.0
    """A member of a group that neither polls, commits nor renews its lease for so long loses its partitions."""
    queue_rows_max: int = 262_144
    """Records that wait to be written; whoever appends more waits until there is room."""
    queue_bytes_max: int = 256 * 1024 * 1024
    record_bytes_max: int = 64 * 1024 * 1024
    """The value, key and headers of one record."""
    append_bytes_max: int = 256 * 1024 * 1024
    """What one append, or one transaction, may bring in all."""
    frame_rows_max: int = 65_536
    """An append of more is kept as several frames, which are still written together."""
    frame_bytes_max: int = 4 * 1024 * 1024
    """Likewise; a single record may be larger."""
    wait_s_max: float = 15.0
    """How long a write waits for its turn before it fails."""
    retention_every_s: float = 30.0
    """How often a process that writes looks for what topics need not keep any more."""
