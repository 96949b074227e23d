"""What a run costs beside the model: the ways between its thread, the event loop and the callers."""

__all__ = ["Turnaround"]

START_S = 0.0002
"""Where the event loop has little else to do."""
S_MAX = 0.02
WEIGHT = 0.1
"""Of the newest one in the moving averages."""


class Turnaround:
    """Learned from batches: how long the runtime stood idle between two that followed at once, and how long it
    took until all of one were answered.

    Some tenths of a millisecond on a calm server, milliseconds on one that refuses ten thousand requests a
    second beside. What it is decides how large batches have to be, and when an answer can be there.
    """

    def __init__(self) -> None:
        self.seconds = START_S
        """Between two runs."""
        self.delivery_s = START_S
        """From the end of a run until the last of its answers is written."""

    def observe(self, idle_s: float) -> None:
        """A batch began so long after the one before it had ended."""
        self.seconds += WEIGHT * (_bounded(idle_s) - self.seconds)

    def delivered(self, seconds: float) -> None:
        """The answers of a batch were written so long after it had ended."""
        self.delivery_s += WEIGHT * (_bounded(seconds) - self.delivery_s)


def _bounded(seconds: float) -> float:
    return min(max(seconds, 0.0), S_MAX)
