"""How much of a runtime's time goes to who is more important: what a caller waits for that is still to come."""

__all__ = ["Precedence"]

CLASSES = 4
EVERY_S = 0.1
MEMORY_S = 0.5
"""Over which the rates of what comes are averaged."""
SHARE_MAX = 0.5
"""With more, those of the lowest class who could just be answered were refused: at twice the capacity one in
a hundred (`tests/simulation`)."""


class Precedence:
    """The rows that are taken on, by criticality, as a share of what the runtime can do.

    Who is less important waits for what stands before it and for what comes meanwhile and goes first: in a
    queue with priorities W = W0 / (1 - s), s being the use that the more important make of the server (Cobham,
    "Priority Assignment in Waiting Line Problems", 1954). Without it they are taken on, wait, and expire.
    """

    def __init__(self) -> None:
        self._rows = [0] * (CLASSES + 1)
        self._rates = [0.0] * (CLASSES + 1)
        self._above = [0.0] * (CLASSES + 1)
        self._rated_s = float("-inf")

    def offered(self, criticality: int, rows: int) -> None:
        """Rows of that class were taken on."""
        self._rows[criticality] += rows

    def update(self, now_s: float, row_s: float) -> None:
        """A batch is formed; `row_s` is what a row takes of the runtime, in seconds."""
        passed_s = now_s - self._rated_s
        if passed_s < EVERY_S:
            return
        weight = min(1.0, passed_s / MEMORY_S)
        above = 0.0
        for each in range(1, CLASSES + 1):
            self._above[each] = min(SHARE_MAX, above * row_s)
            self._rates[each] += weight * (self._rows[each] / passed_s - self._rates[each])
            self._rows[each] = 0
            above += self._rates[each]
        self._rated_s = now_s

    def longer(self, criticality: int, wait_s: float) -> float:
        """How long a wait of `wait_s` is for who lets the more important go first, in seconds."""
        return wait_s / (1.0 - self._above[criticality])
