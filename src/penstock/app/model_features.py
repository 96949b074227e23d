"""What an app file says of the features that a model takes."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from penstock.core.errors import ConfigurationError, shown
from penstock.features.view import FeatureView

__all__ = ["DeclaredView", "ModelFeatures", "model_features"]


class DeclaredView(Protocol):
    """What `app.features` gives."""

    @property
    def view(self) -> FeatureView: ...


class ModelFeatures(msgspec.Struct, frozen=True, kw_only=True):
    """The views that fill inputs of a model. `keys` say which input a key column comes from, where that is
    called otherwise; `time` is the input that says as of when to read.
    """

    views: tuple[FeatureView, ...]
    keys: dict[str, str]
    time: str | None = None


def model_features(
    model: str, features: object, keys: Mapping[str, str] | None, time: str | None
) -> ModelFeatures | None:
    """As it was declared; None where there are no features. Raises `ConfigurationError` for what is none."""
    if isinstance(features, str) or not isinstance(features, Sequence):
        raise ConfigurationError(
            f"model {model!r}: features is {shown(features)}, not a list",
            hint="write features=[congestion, weather], of views that app.features gave",
        )
    views = tuple(_view(model, each) for each in features)
    if not views:
        if keys or time:
            raise ConfigurationError(f"model {model!r} has feature_keys or feature_time, and no features")
        return None
    _check_names(model, views)
    named = dict(keys or {})
    known = {key for view in views for key in view.key_names}
    for key, name in named.items():
        if key not in known or not isinstance(name, str):
            raise ConfigurationError(
                f"model {model!r}: feature_keys has {shown(key)}: {shown(name)}, which is no key and its input",
                hint=f"the keys of its views are {', '.join(sorted(known))}",
            )
    if time is not None and not isinstance(time, str):
        raise ConfigurationError(
            f"model {model!r}: feature_time is {shown(time)}, not the name of an input",
            hint="it names the input that says, in milliseconds since 1970, as of when to read features",
        )
    return ModelFeatures(views=views, keys=named, time=time)


def _view(model: str, declared: object) -> FeatureView:
    view = getattr(declared, "view", None)
    if not isinstance(view, FeatureView):
        raise ConfigurationError(
            f"model {model!r}: {shown(declared)} is no feature view",
            hint="declare one: app.features(NAME, stream.window(...).agg(...))",
        )
    return view


def _check_names(model: str, views: Sequence[FeatureView]) -> None:
    owners: dict[str, str] = {}
    for number, view in enumerate(views):
        if view.name in [each.name for each in views[:number]]:
            raise ConfigurationError(
                f"model {model!r}: feature view {view.name!r} stands twice in its features"
            )
        for name in view.feature_names:
            if name in owners:
                raise ConfigurationError(
                    f"model {model!r}: {shown(name)} is a feature of {owners[name]!r} and of {view.name!r}",
                    hint="name one otherwise: the aggregate of its window, or before stream.latest(...) the"
                    " column, by stream.rename({...})",
                )
            owners[name] = view.name
