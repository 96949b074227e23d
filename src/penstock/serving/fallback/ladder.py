"""What falls to the next rung, and how much time each rung has."""

from collections.abc import Sequence

from penstock.core.errors import DeadlineExceeded, InvalidInput, ModelFailed, NotFound, QuotaExceeded

__all__ = ["blames_model", "falls", "slice_s"]

BELOW_SHARE = 0.25
"""Of what time is left, the share that a rung leaves to those below it where one of them has to compute."""
BELOW_SHARE_AT_ONCE = 0.05
"""Likewise where all below answer at once: it has to cover no more than a turn of a busy event loop."""
BELOW_S_MIN = 0.005
BELOW_S_MAX = 1.0


def falls(error: BaseException) -> bool:
    """Whether the next rung is to answer in place of this error.

    What is wrong with the request is wrong on every rung, and a quota is not lifted by a cheaper answer.
    """
    return not isinstance(error, InvalidInput | NotFound | QuotaExceeded)


def blames_model(error: BaseException) -> bool:
    """Whether this error speaks against the version itself, and so counts for its breaker.

    A refusal, a request that expired while it waited and invalid input do not.
    """
    return isinstance(error, ModelFailed) or (isinstance(error, DeadlineExceeded) and error.overran)


def slice_s(remaining_s: float, below: Sequence[bool]) -> float:
    """How much of the time that is left a rung may take, in seconds; `below` says of each rung below it whether
    that has to compute.

    A share is kept back rather than a fixed time, so that an objective of 10 ms and one of 10 s both work; it
    shrinks geometrically from rung to rung. It is never less than a timer of the event loop can keep, nor more
    than a second: what takes longer than that is no fallback.
    """
    if not below or remaining_s <= 0:
        return max(0.0, remaining_s)
    kept_s = remaining_s * (BELOW_SHARE if any(below) else BELOW_SHARE_AT_ONCE)
    return remaining_s - min(max(kept_s, BELOW_S_MIN), BELOW_S_MAX, remaining_s / 2)
