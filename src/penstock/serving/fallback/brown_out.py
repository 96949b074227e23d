"""Brown-out: under pressure that lasts, what matters least is answered more cheaply before anything is refused.

The idea is Klein, Maggio, Årzén and Hernández-Rodriguez's ("Brownout: Building More Robust Cloud Applications",
ICSE 2014): optional quality is given up first. Once the cheaper rungs take load away, the pressure goes, and
with it the reason for them; a version that was only just too slow would be let go and called back for ever. So
leaving takes longer than entering, and twice as long each time that it had to enter again soon after.
"""

import msgspec

from penstock.core.calling import Criticality

__all__ = ["BROWN_CRITICALITY", "BrownOut", "BrownOutStatistics"]

BROWN_CRITICALITY = Criticality.SHEDDABLE_PLUS
"""From this class on."""
ENTER_S = 2.0
LEAVE_S = 5.0
LEAVE_LONGEST_S = 60.0


class BrownOutStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Whether it is on, how often it came on, and the calm that ends it, in seconds."""

    active: bool
    entered: int
    leave_s: float


class BrownOut:
    """On after `ENTER_S` of pressure, off after `LEAVE_S` and more without any. Times are monotonic seconds."""

    def __init__(self) -> None:
        self.active = False
        self._turned_s: float | None = None
        """Since when the pressure speaks against the present state; None: it does not."""
        self._left_s = float("-inf")
        self._leave_s = LEAVE_S
        self._entered = 0

    def observe(self, pressure: float, now_s: float) -> None:
        """The pressure at the moment: the share of requests that would be shed. Told of it about ten times a
        second.
        """
        if (pressure > 0) == self.active:
            self._turned_s = None
            return
        if self._turned_s is None or now_s < self._turned_s:
            self._turned_s = now_s
        if now_s - self._turned_s < (self._leave_s if self.active else ENTER_S):
            return
        self._turned_s = None
        if self.active:
            self._left_s = now_s
        else:
            again = now_s - self._left_s <= ENTER_S + self._leave_s
            self._leave_s = min(2 * self._leave_s, LEAVE_LONGEST_S) if again else LEAVE_S
            self._entered += 1
        self.active = not self.active

    def wants(self, criticality: int) -> bool:
        """Whether a request of that class goes to a cheaper rung first."""
        return self.active and criticality >= BROWN_CRITICALITY

    def statistics(self) -> BrownOutStatistics:
        return BrownOutStatistics(active=self.active, entered=self._entered, leave_s=self._leave_s)
