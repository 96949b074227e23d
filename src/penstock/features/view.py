"""A feature view: named numbers under a key, and what they are where nothing is known."""

from collections.abc import Sequence
from typing import Final

import msgspec

from penstock.core.errors import ConfigurationError, shown
from penstock.core.tensors import DataType

__all__ = ["FEATURES_MAX", "Feature", "FeatureView", "KeyColumn", "encode_keys"]

FEATURES_MAX = 63
"""Features of one view: which of them are known stands in the bits of one integer."""
KEY_TYPES: Final = (DataType.STRING, DataType.INT64, DataType.BOOL)
FEATURE_TYPES: Final = (DataType.FP64, DataType.INT64, DataType.BOOL)
_encode = msgspec.msgpack.Encoder().encode


class KeyColumn(msgspec.Struct, frozen=True, kw_only=True):
    """One column of a view's key: text, integers (of any width, as INT64) or booleans."""

    name: str
    datatype: DataType


class Feature(msgspec.Struct, frozen=True, kw_only=True):
    """One number of a view: FP64, INT64 or BOOL. `default` stands where it is missing or stale."""

    name: str
    datatype: DataType
    default: float | int | bool


class FeatureView(msgspec.Struct, frozen=True, kw_only=True):
    """What is stored, read and joined under one name.

    `stale_s`: when nothing was heard of the view for so long, its values are stale (None: they never are).
    `topic` is where its updates stand in the log, of which `app` has it. `definition` is a digest of what its
    values are computed by: with another one, the same events come to others.
    """

    name: str
    keys: tuple[KeyColumn, ...]
    features: tuple[Feature, ...]
    topic: str
    stale_s: float | None = None
    app: str = ""
    definition: str = ""

    def __post_init__(self) -> None:
        if not self.keys or not self.features:
            raise ConfigurationError(
                f"feature view {self.name!r} has no " + ("features" if self.keys else "key")
            )
        if len(self.features) > FEATURES_MAX:
            raise ConfigurationError(
                f"feature view {self.name!r} has {len(self.features)} features",
                hint=f"one view has {FEATURES_MAX} at most: split it",
            )
        for key in self.keys:
            self._check_type(key, KEY_TYPES)
        for feature in self.features:
            self._check_type(feature, FEATURE_TYPES)
        names = self.names
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ConfigurationError(f"feature view {self.name!r} has two columns {shown(twice)}")

    def _check_type(self, column: KeyColumn | Feature, allowed: Sequence[DataType]) -> None:
        if column.datatype not in allowed:
            raise ConfigurationError(
                f"feature view {self.name!r}: {column.name!r} is of {column.datatype.value}",
                hint=f"it can be {', '.join(each.value for each in allowed)}",
            )

    @property
    def key_names(self) -> tuple[str, ...]:
        return tuple(key.name for key in self.keys)

    @property
    def feature_names(self) -> tuple[str, ...]:
        return tuple(feature.name for feature in self.features)

    @property
    def names(self) -> tuple[str, ...]:
        """Of all columns, the key's first."""
        return (*self.key_names, *self.feature_names)


def encode_keys(columns: Sequence[Sequence[object]]) -> list[bytes]:
    """Keys as bytes, equal for equal values: of columns of Python's own `str`, `int`, `bool` and None, one
    sequence for each column of the key.
    """
    if len(columns) == 1:
        return [_encode(value) for value in columns[0]]
    return [_encode(values) for values in zip(*columns, strict=True)]
