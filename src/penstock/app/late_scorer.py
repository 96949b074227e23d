"""What an app file says of scoring streams, and who scores once the models are loaded."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import polars as pl

from penstock.app.model_declarations import ModelDeclaration
from penstock.app.scored_columns import columns_of_input, fits
from penstock.core.errors import ConfigurationError, shown
from penstock.core.signature import Signature, TensorSpec
from penstock.streams.scoring import Inputs, Scorer, Scores

__all__ = ["LateScorer", "ScoredInputs", "scored_name", "scored_outputs"]


def scored_name(model: object) -> str:
    """Of what `score` was given. Raises `ConfigurationError`."""
    if isinstance(model, str):
        return model
    if isinstance(model, ModelDeclaration):
        return model.name
    raise ConfigurationError(
        f"score({shown(model)}): that is no model",
        hint="give what app.model(...) gave, or the name under which a function of the app file is declared",
    )


def scored_outputs(model: str, outputs: Mapping[str, object] | None) -> pl.Schema:
    """What is to become columns. A version is only chosen when the app runs, and the columns of its streams are
    known before: so they are named. Raises `ConfigurationError` where they are not.
    """
    if not outputs:
        raise ConfigurationError(
            f"score({model!r}) names no outputs, and the stream's columns have to be known before a version is",
            hint="name those that you want, with their types: outputs={'probability': pl.Float64};"
            f" `penstock model show {model}` lists what a version in the registry gives",
        )
    try:
        return pl.Schema(outputs)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"score({model!r}): outputs is {shown(outputs)}, no names with Polars types",
            hint="for example outputs={'probability': pl.Float64}",
        ) from error


@dataclass(frozen=True, kw_only=True)
class ScoredInputs:
    """What a declared `score` gives to its model. `columns` are the stream's."""

    model: str
    named: Inputs
    columns: pl.Schema

    def check(self, signature: Signature) -> None:
        """Raises `ConfigurationError` for inputs that the stream has no fitting column for."""
        names = {spec.name for spec in signature.inputs}
        wrong = next((f"it has no input {name!r}" for name in self.named if name not in names), None)
        for spec in signature.inputs:
            wrong = wrong or self._lack(spec)
        if wrong is None:
            return
        takes = ", ".join(f"{spec.name} {spec.describe()}" for spec in signature.inputs)
        raise ConfigurationError(
            f"score({self.model!r}): {wrong}",
            hint=f"the model takes {takes}; the stream has {', '.join(self.columns)}; name columns that are"
            " called otherwise by inputs={'input': 'column'}, and give score() what app.model(...) gave, which"
            " adds its features",
        )

    def _lack(self, spec: TensorSpec) -> str | None:
        for column in columns_of_input(spec.name, self.named):
            dtype = self.columns.get(column)
            if dtype is None:
                return f"the stream has no column {column!r}"
            if not fits(dtype, spec):
                return f"column {column!r} is of {dtype}, input {spec.name!r} {spec.describe()}"
        return None


class LateScorer:
    """What a declaration scores by: bound to who has the models once these are loaded."""

    def __init__(self) -> None:
        self.declared: list[ScoredInputs] = []
        """One for each `score` that is declared."""
        self._bound: Scorer | None = None

    def bind(self, scorer: Scorer) -> None:
        self._bound = scorer

    def score(self, model: str, frame: pl.DataFrame, inputs: Inputs, wanted: Collection[str]) -> Scores:
        assert self._bound is not None, "models are loaded before the engine starts"
        return self._bound.score(model, frame, inputs, wanted)

    def answers(self, model: str) -> bool | None:
        assert self._bound is not None, "models are loaded before the engine starts"
        return self._bound.answers(model)
