"""When a process has come to rest after work, so that what can wait for that is done then."""

__all__ = ["IdleWatch"]

IDLE_S = 5.0
IDLE_SHARE = 0.05
"""Of a core: health checks and scrapes of metrics are no work."""
WORK_S = 0.5
"""Processor time since the last rest, from which on there is something to clean up after."""


class IdleWatch:
    """Told now and again how much processor time the process has used; times are seconds."""

    def __init__(self, now_s: float, processor_s: float) -> None:
        self._since_s = now_s
        self._used_s = processor_s
        self._cleaned_s = processor_s

    def rested(self, processor_s: float) -> None:
        """What was done meanwhile was no work: resting is nothing to rest from."""
        self._used_s = self._cleaned_s = processor_s

    def fell_idle(self, now_s: float, processor_s: float) -> bool:
        """Whether it has hardly worked for `IDLE_S` now, having worked before. True once for each rest."""
        if processor_s - self._used_s > IDLE_SHARE * IDLE_S:
            self._since_s, self._used_s = now_s, processor_s
            return False
        if now_s - self._since_s < IDLE_S:
            return False
        self._since_s, self._used_s = now_s, processor_s
        if processor_s - self._cleaned_s < WORK_S:
            return False
        self._cleaned_s = processor_s
        return True
