"""What a figure gives: claims with the bounds they are held against, and the facts behind them."""

from dataclasses import dataclass, field

__all__ = ["Claim", "FigureFailed", "Result"]


class FigureFailed(Exception):
    """Something that must not happen has, so there is no figure; the message says what."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A measured value and the bound it is held against. None: it was not measured."""

    name: str
    value: float | None
    at_least: float | None = None
    at_most: float | None = None

    @property
    def met(self) -> bool | None:
        """None where there is nothing to judge."""
        if self.value is None:
            return None
        low = self.at_least is None or self.value >= self.at_least
        return low and (self.at_most is None or self.value <= self.at_most)

    @property
    def bound(self) -> str:
        return f"≥ {self.at_least:g}" if self.at_least is not None else f"≤ {self.at_most:g}"


@dataclass(frozen=True, kw_only=True)
class Result:
    """One figure: what is claimed, the facts behind it for the JSON, and the lines of its table.

    `remarks` say what a reader has to know, such as a client that was at its limit.
    """

    name: str
    claims: tuple[Claim, ...]
    facts: dict[str, object]
    lines: list[tuple[str, str]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
