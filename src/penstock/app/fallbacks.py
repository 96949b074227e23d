"""What a user writes in `fallback=[...]`."""

from collections.abc import Callable, Sequence

from penstock.core.durations import duration_s
from penstock.core.errors import ConfigurationError, shown
from penstock.core.tensors import Tensors
from penstock.models.naming import check_model_name
from penstock.serving.fallback.rungs import (
    CACHED,
    CONSTANT,
    HEURISTIC,
    HEURISTIC_CONCURRENCY,
    HEURISTIC_TIMEOUT_MS,
    MODEL,
    Backup,
    Cached,
    Constant,
    Heuristic,
    Rung,
)

__all__ = ["RUNGS_MAX", "cached", "check_backups", "constant", "heuristic", "rungs"]

RUNGS_MAX = 8
_KINDS = (MODEL, CACHED, CONSTANT, HEURISTIC)


def cached(max_age: str | float) -> Cached:
    """A rung: the answer that the model gave to the same inputs, at most `max_age` ago ("10m", or seconds)."""
    return Cached(max_age_s=duration_s(max_age, "cached(max_age=...)"))


def constant(**outputs: object) -> Constant:
    """A rung: the same value in each row, by output, as in `constant(probability=0.2)`.

    It has to fit the model's outputs; that is checked when the model is loaded.
    """
    return Constant(values=outputs)


def heuristic(
    function: Callable[[Tensors], object],
    *,
    timeout_ms: float = HEURISTIC_TIMEOUT_MS,
    concurrency: int = HEURISTIC_CONCURRENCY,
) -> Heuristic:
    """A rung: a function of the inputs, called as a callable model is: a dict of arrays in, one out.

    It runs in a thread of the serving process, so it has to be quick, and pure. It is given `timeout_ms`; at
    most `concurrency` requests wait for it at a time.
    """
    return Heuristic(function=function, timeout_ms=timeout_ms, concurrency=concurrency)


def rungs(model: str, fallback: Sequence[Rung | str]) -> tuple[Rung, ...]:
    """A model's ladder as it was declared; a name is another model of the app.

    Raises `ConfigurationError` for what is no rung, a rung that stands twice, and too many of them.
    """
    if isinstance(fallback, str) or not isinstance(fallback, Sequence):
        raise ConfigurationError(
            f"model {model!r}: fallback is {shown(fallback)}, not a list",
            hint='write fallback=[cached(max_age="10m"), "another-model", constant(y=0.5)]',
        )
    if len(fallback) > RUNGS_MAX:
        raise ConfigurationError(f"model {model!r}: {len(fallback)} rungs, where {RUNGS_MAX} may be")
    ladder = tuple(_rung(model, each) for each in fallback)
    names = [rung.name for rung in ladder]
    for name in names:
        if names.count(name) > 1:
            raise ConfigurationError(f"model {model!r}: rung {name!r} stands twice in its fallback")
    return ladder


def _rung(model: str, declared: object) -> Rung:
    if isinstance(declared, Cached | Backup | Constant | Heuristic):
        return declared
    if not isinstance(declared, str):
        raise ConfigurationError(
            f"model {model!r}: {shown(declared)} is no rung of a ladder",
            hint="a rung is cached(...), constant(...), heuristic(...) or another model's name",
        )
    check_model_name(declared)
    if declared == model:
        raise ConfigurationError(f"model {model!r} cannot be its own fallback")
    if declared in _KINDS:
        # Answers tell their rung by its name, and this one would look like another kind.
        raise ConfigurationError(f"model {model!r}: no backup model can be called {declared!r}")
    return Backup(name=declared)


def check_backups(app: str, ladders: dict[str, tuple[Rung, ...]]) -> None:
    """Raises `ConfigurationError` for a backup that the app does not declare; `ladders` are its models' own."""
    for model, ladder in ladders.items():
        for rung in ladder:
            if isinstance(rung, Backup) and rung.name not in ladders:
                raise ConfigurationError(
                    f"app {app!r}: model {model!r} falls back to {rung.name!r}, which the app does not declare",
                    hint=f"declared are: {', '.join(ladders)}; add app.model({rung.name!r})",
                )
