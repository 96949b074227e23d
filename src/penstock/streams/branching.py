"""One stream into several, by named predicates."""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from penstock.core.errors import ConfigurationError
from penstock.streams.isolating import FailedRow, attempt, isolate
from penstock.streams.operator import OFFSET
from penstock.streams.transforming import Filter

__all__ = ["Branched", "Branches", "BranchesConfig"]

MASK_PREFIX = "_in_"
"""Masks stand beside the frame's columns for a moment; no column of the user's starts so."""


@dataclass(frozen=True, kw_only=True)
class Branched:
    """Rows by the branch that they took, each in their order; and those whose predicate raised."""

    frames: Mapping[str, pl.DataFrame]
    failed: tuple[FailedRow, ...] = ()


@dataclass(frozen=True, kw_only=True)
class BranchesConfig:
    """Predicates by the branch's name. A row goes where its predicate is true (null is not): into the first
    such branch, or with `all_matches` into each. Rows of no branch go to `otherwise`, or where that is None
    nowhere.
    """

    predicates: Mapping[str, pl.Expr]
    otherwise: str | None = None
    all_matches: bool = False

    def build(self, schema: pl.Schema) -> "Branches":
        """Raises `ConfigurationError`."""
        if not self.predicates:
            raise ConfigurationError("branch() has no predicate", hint="give it name=expression")
        if self.otherwise in self.predicates:
            raise ConfigurationError(
                f"branch(): {self.otherwise!r} has a predicate and is the one for all others",
                hint="give them different names",
            )
        for name, predicate in self.predicates.items():
            Filter(predicate=predicate).build(schema)
            if predicate.meta.has_multiple_outputs():
                raise ConfigurationError(
                    f"branch({name}=…): the predicate expands to several columns", hint="name its columns"
                )
        return Branches(self, schema)


class Branches:
    """Of frames with these columns. It has no state."""

    def __init__(self, config: BranchesConfig, schema: pl.Schema) -> None:
        self.schema = schema
        self.config = config
        self._names = tuple(config.predicates)
        self._masks = [
            predicate.fill_null(value=False).alias(MASK_PREFIX + name)
            for name, predicate in config.predicates.items()
        ]

    def apply(self, frame: pl.DataFrame) -> Branched:
        masks = attempt(self._judge, frame)
        if isinstance(masks, pl.DataFrame):
            return Branched(frames=self._split(frame, masks))
        judged = isolate(
            frame,
            lambda pieces: [attempt(lambda rows: rows.hstack(self._judge(rows)), piece) for piece in pieces],
            empty=frame.clear().hstack(self._judge(frame.clear())),
        )
        good = judged.frame
        frames = self._split(good.select(frame.columns), good)
        return Branched(frames=frames, failed=judged.failed)

    def _judge(self, frame: pl.DataFrame) -> pl.DataFrame:
        return frame.select(*self._masks, OFFSET).drop(OFFSET)  # a literal is repeated beside a column

    def _split(self, frame: pl.DataFrame, masks: pl.DataFrame) -> dict[str, pl.DataFrame]:
        frames: dict[str, pl.DataFrame] = {}
        taken: pl.Series | None = None
        for name in self._names:
            mask = masks.get_column(MASK_PREFIX + name)
            chosen = mask if taken is None or self.config.all_matches else mask & ~taken
            frames[name] = frame.filter(chosen)
            taken = mask if taken is None else taken | mask
        if self.config.otherwise is not None and taken is not None:
            frames[self.config.otherwise] = frame.filter(~taken)
        return frames
