"""What a run costs beside the model: the way from its thread to the event loop and back."""

__all__ = ["Turnaround"]

START_S = 0.0002
"""Where the event loop has little else to do."""
S_MAX = 0.02
WEIGHT = 0.1
"""Of the newest one in the moving average."""


class Turnaround:
    """Learned from batches that follow one another at once: how long the runtime stood idle between them.

    Some tenths of a millisecond on a calm server, milliseconds on one that refuses ten thousand requests a
    second beside. What it is decides how large batches have to be, and when an answer can be there.
    """

    def __init__(self) -> None:
        self.seconds = START_S

    def observe(self, idle_s: float) -> None:
        """A batch began so long after the one before it had ended."""
        self.seconds += WEIGHT * (min(max(idle_s, 0.0), S_MAX) - self.seconds)
