"""How far the event loop is behind: what has come and was not looked at yet cannot be seen otherwise."""

__all__ = ["BEAT_S", "LoopLag"]

BEAT_S = 0.02
"""How often the loop is asked to come round."""


class LoopLag:
    """Told of a beat that should come every `BEAT_S`, from the first one on. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._due_s = float("inf")
        self._last_s = 0.0

    def beat(self, now_s: float) -> float:
        """The loop came round; how late it was. The next beat is due `BEAT_S` from now."""
        self._last_s = max(0.0, now_s - self._due_s)
        self._due_s = now_s + BEAT_S
        return self._last_s

    def rest(self) -> None:
        """No beat is to be expected any more."""
        self._due_s = float("inf")
        self._last_s = 0.0

    def lag_s(self, now_s: float) -> float:
        """How late the last beat was, or the next one is already."""
        overdue_s = now_s - self._due_s
        return max(overdue_s, self._last_s)
