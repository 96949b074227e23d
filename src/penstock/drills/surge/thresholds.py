"""What is required of a drill, as the command line has it: `goodput>=0.95`, `good[CRITICAL]>=0.999`."""

import math
import re
from enum import StrEnum

import msgspec

from penstock.core.errors import InvalidInput, shown

__all__ = ["METRICS", "Held", "Judged", "Threshold", "exit_code", "parse_threshold"]

METRICS = {
    "goodput": "good requests, of those that the server could have answered: offered, or its capacity if less",
    "good": "share of the offered that was answered 200 within the objective",
    "answered": "share of the offered that was answered 200, in time or not",
    "shed": "share of the offered that was refused (503, 429)",
    "failed": "share of the offered that ended any other way (504, errors, timeouts, broken connections)",
    "p50_ms": "median latency of the answers, from the intended time",
    "p90_ms": "90 % of the answers came within so many milliseconds",
    "p99_ms": "99 % of the answers came within so many milliseconds",
    "p999_ms": "99.9 % of the answers came within so many milliseconds",
    "recovery_s": "from the end of the surge until five windows in a row are 99 % good",
}
_FORM = re.compile(r"\s*(\w+)\s*(?:\[([^\]]*)\])?\s*(>=|<=|>|<)\s*([-+.\w]+)\s*")
_WHOLE_ONLY = ("goodput", "recovery_s")


class Held(StrEnum):
    HELD = "held"
    NOT_HELD = "not held"
    NOT_MEASURED = "not measured"


class Threshold(msgspec.Struct, frozen=True, kw_only=True):
    """A figure, of everybody or of one class or tenant (`of`), and the bound that it has to keep."""

    metric: str
    of: str
    relation: str
    bound: float

    @property
    def text(self) -> str:
        return f"{self.metric}{f'[{self.of}]' if self.of else ''}{self.relation}{self.bound:g}"

    def judge(self, measured: float | None) -> Held:
        """None is what could not be measured, and neither holds nor fails."""
        if measured is None:
            return Held.NOT_MEASURED
        held = {
            ">=": measured >= self.bound,
            "<=": measured <= self.bound,
            ">": measured > self.bound,
            "<": measured < self.bound,
        }[self.relation]
        return Held.HELD if held else Held.NOT_HELD


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """A threshold with what was measured."""

    text: str
    meaning: str
    measured: float | None
    outcome: Held


def parse_threshold(text: str, known: tuple[str, ...]) -> Threshold:
    """From its notation; `known` are the classes and tenants of this drill. Raises `InvalidInput`."""
    match = _FORM.fullmatch(text)
    hint = f"e.g. 'p99_ms<=100' or 'good[CRITICAL]>=0.99'; figures are {', '.join(METRICS)}"
    if match is None or match[1] not in METRICS:
        raise InvalidInput(f"--require {shown(text)} is no figure with a bound", where="--require", hint=hint)
    metric, of, relation, number = match[1], match[2], match[3], match[4]
    try:
        bound = float(number)
    except ValueError:
        raise InvalidInput(
            f"--require {shown(text)}: {shown(number)} is no number", where="--require"
        ) from None
    if not math.isfinite(bound):
        raise InvalidInput(f"--require {shown(text)}: the bound has to be finite", where="--require")
    if of is not None and (metric in _WHOLE_ONLY or of not in known):
        told = (
            f"{metric} is a figure of the whole" if metric in _WHOLE_ONLY else "nobody of that name asks here"
        )
        raise InvalidInput(
            f"--require {shown(text)}: {told}",
            where="--require",
            hint=f"classes and tenants: {', '.join(known)}",
        )
    return Threshold(metric=metric, of=of or "", relation=relation, bound=bound)


def exit_code(judged: tuple[Judged, ...], *, trusted: bool) -> int:
    """0 where all hold, 1 where one does not, 2 where it cannot be told.

    `trusted` says whether the generator kept up: figures that it did not keep up for are no verdict.
    """
    outcomes = {each.outcome for each in judged}
    if not trusted or Held.NOT_MEASURED in outcomes:
        return 2
    return 1 if Held.NOT_HELD in outcomes else 0
