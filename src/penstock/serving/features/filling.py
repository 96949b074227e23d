"""Which inputs of a version are filled by which features, and what is left for its callers to send."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from penstock.core.errors import ConfigurationError, shown
from penstock.core.signature import ANY, Signature, TensorSpec
from penstock.core.tensors import DataType
from penstock.features.view import Feature, FeatureView, KeyColumn
from penstock.serving.features.casting import fits, is_castable, is_narrow

__all__ = ["Fill", "Filling", "ViewUse", "filling_of"]

NAMES_SHOWN_MAX = 20
_KEY_INPUTS: Final[dict[DataType, frozenset[DataType]]] = {
    DataType.STRING: frozenset({DataType.STRING}),
    DataType.BOOL: frozenset({DataType.BOOL}),
    DataType.INT64: frozenset(each for each in DataType if "INT" in each.value),
}


@dataclass(frozen=True, kw_only=True)
class Fill:
    """A feature, by its number in its view, that goes into an input. `narrow`: not all its values may."""

    number: int
    feature: Feature
    spec: TensorSpec
    narrow: bool


@dataclass(frozen=True, kw_only=True)
class ViewUse:
    """What is taken of a view. `keys` are the inputs that its key columns come from, in its order."""

    view: FeatureView
    keys: tuple[str, ...]
    fills: tuple[Fill, ...]


@dataclass(frozen=True, kw_only=True)
class Filling:
    """`signature` is what callers see; `inner` what the model takes. `time` is the input that says for each row
    as of when its features are read, in milliseconds since 1970; None: as of now.
    """

    signature: Signature
    inner: Signature
    uses: tuple[ViewUse, ...]
    time: str | None = None


def filling_of(
    model: str,
    signature: Signature,
    views: Sequence[FeatureView],
    keys: Mapping[str, str],
    time: str | None = None,
) -> Filling:
    """How `views` fill the inputs of a version with this signature; `keys` name the inputs that key columns
    come from, where they are called otherwise.

    Raises `ConfigurationError`, with the names, where they do not fit.
    """
    inputs = {spec.name: spec for spec in signature.inputs}
    given: dict[str, str] = {}
    uses = []
    for view in views:
        for name in view.feature_names:
            if name in given:
                raise ConfigurationError(
                    f"model {model!r}: {shown(name)} is a feature of {given[name]!r} and of {view.name!r}",
                    hint="name one otherwise: the aggregate of its window, or before stream.latest(...) the"
                    " column, by stream.rename({...})",
                )
            given[name] = view.name
        uses.append(_use(model, view, inputs, tuple(keys.get(key, key) for key in view.key_names)))
    filled = {fill.spec.name for use in uses for fill in use.fills}
    left = tuple(spec for spec in signature.inputs if spec.name not in filled)
    asked = {spec.name: spec for spec in left}
    for spec in _key_specs(model, uses, inputs, given, time):
        asked.setdefault(spec.name, spec)
    public = Signature(inputs=tuple(asked.values()), outputs=signature.outputs)
    return Filling(signature=public, inner=signature, uses=tuple(uses), time=time)


def _use(model: str, view: FeatureView, inputs: Mapping[str, TensorSpec], keys: tuple[str, ...]) -> ViewUse:
    fills = tuple(
        _fill(model, view, number, inputs[feature.name])
        for number, feature in enumerate(view.features)
        if feature.name in inputs
    )
    if not fills:
        raise _nothing_taken(model, view, inputs)
    return ViewUse(view=view, keys=keys, fills=fills)


def _nothing_taken(model: str, view: FeatureView, inputs: Mapping[str, TensorSpec]) -> ConfigurationError:
    listed = ", ".join(f"{spec.name} {spec.describe()}" for spec in list(inputs.values())[:NAMES_SHOWN_MAX])
    hint = "call the features as the inputs are called, or leave the view out of features="
    if len(inputs) == 1 and next(iter(inputs.values())).row_shape not in ((), (1,)):
        hint = "a model of one matrix has no names that features could fill: push it with named columns"
    return ConfigurationError(
        f"model {model!r}: of feature view {view.name!r} ({', '.join(view.feature_names)}) nothing is an input;"
        f" the model takes {listed}",
        hint=hint,
    )


def _fill(model: str, view: FeatureView, number: int, spec: TensorSpec) -> Fill:
    feature = view.features[number]
    said = f"model {model!r}: feature {feature.name!r} of {view.name!r}"
    if len(spec.shape) > 2 or spec.shape[1:] not in ((), (1,), (ANY,)):
        raise ConfigurationError(
            f"{said} is one number a row, and input {spec.describe()} is more",
            hint="a feature fills an input of one column, [-1] or [-1, 1]",
        )
    if not is_castable(feature.datatype, spec.datatype):
        raise ConfigurationError(
            f"{said} is {feature.datatype.value}, and the input of that name {spec.datatype.value}",
            hint="cast it in its view: floats go into floats, integers into any numbers, booleans into all",
        )
    default = np.array([feature.default], feature.datatype.numpy)
    if not fits(default, spec).all():
        raise ConfigurationError(
            f"{said} is {feature.default!r} where it is missing; input {spec.describe()} has no place for that",
            hint=f"give the view a default that the model knows: defaults={{{feature.name!r}: 0}}",
        )
    return Fill(number=number, feature=feature, spec=spec, narrow=is_narrow(feature.datatype, spec))


def _key_specs(
    model: str,
    uses: Sequence[ViewUse],
    inputs: Mapping[str, TensorSpec],
    features: Mapping[str, str],
    time: str | None,
) -> Iterator[TensorSpec]:
    """What callers send beside the model's own inputs. Each key is held against what else is of its name."""
    found: dict[str, KeyColumn] = {}
    wanted = [
        (use.view.name, name, key) for use in uses for name, key in zip(use.keys, use.view.keys, strict=True)
    ]
    if time is not None:
        wanted.append(("feature_time", time, KeyColumn(name=time, datatype=DataType.INT64)))
    for view, name, key in wanted:
        if name in features and name in inputs:
            raise ConfigurationError(
                f"model {model!r}: callers send {shown(name)} for {view!r}, and {features[name]!r} fills it",
                hint="name another input for the key: feature_keys={KEY: INPUT}",
            )
        before = found.setdefault(name, key)
        if before.datatype is not key.datatype:
            raise ConfigurationError(
                f"model {model!r}: key {shown(name)} is {before.datatype.value} in one view, and"
                f" {key.datatype.value} in {view!r}",
                hint="name another input for one of them: feature_keys={KEY: INPUT}",
            )
        spec = inputs.get(name)
        if spec is None:
            yield TensorSpec(name=name, datatype=key.datatype, shape=(ANY,))
        elif spec.datatype not in _KEY_INPUTS[key.datatype] or spec.shape[1:] not in ((), (1,), (ANY,)):
            raise ConfigurationError(
                f"model {model!r}: input {shown(name)} is {spec.describe()}, and the key of {view!r} that comes"
                f" from it {key.datatype.value}",
                hint="name another input for it: feature_keys={KEY: INPUT}",
            )
