"""How many jobs a process runs at once: as many as the models take on, found by additive increase and
multiplicative decrease, as TCP finds what a network takes.
"""

__all__ = ["InFlight"]

PAUSE_S = 0.5


class InFlight:
    """Starts at its most. Times are monotonic seconds."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._limit = float(most)
        self._resumes_s = float("-inf")

    @property
    def limit(self) -> int:
        return int(self._limit)

    def room(self, running: int, now_s: float) -> int:
        """How many more may be begun now, where so many run."""
        return 0 if now_s < self._resumes_s else max(0, self.limit - running)

    def answered(self) -> None:
        """One was run. As many in a row as run at once, and there is room for one more."""
        self._limit = min(float(self._most), self._limit + 1.0 / self._limit)

    def refused(self, now_s: float) -> None:
        """One had no room. However many are refused together, they count once."""
        if now_s >= self._resumes_s:
            self._limit = max(1.0, self._limit / 2)
            self._resumes_s = now_s + PAUSE_S
