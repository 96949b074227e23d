"""What a feature view's values are computed by, as a digest: so that what an older definition made is not taken
for what holds now.

It has the window and its aggregates, all that is done to the events before it (what they are expected to hold
to, filters, columns, functions, branches, joins), and the expressions after it. It has no defaults and no
staleness, which are the reader's; nor how many keys or partitions there are, nor columns that the window does
not look at. Of functions it has the source.
"""

import functools
import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from types import FunctionType, MethodType

import msgspec
import polars as pl

from penstock.app.views import WindowedView, read_columns, where_made
from penstock.features.view import FeatureView
from penstock.streams.branching import Branches
from penstock.streams.graph import Branched, From, Joined, Keyed, Operated, Source, Transformed

__all__ = ["definition_of"]

DIGEST_BYTES = 16
_LEFT_OUT = {"concurrency", "schema"}
"""Of what is done to events: no value depends on them."""


def definition_of(windowed: WindowedView, expressions: Sequence[pl.Expr]) -> str:
    """The same for the same app file, in every process."""
    config = windowed.config
    said = (
        _said(where_made(windowed.origin, read_columns(config))),
        config.fingerprint,
        [_plain(each) for each in expressions],
    )
    return hashlib.blake2b(msgspec.msgpack.encode(said), digest_size=DIGEST_BYTES).hexdigest()


def _said(origin: From) -> object:
    """What comes out of a port, in lists, texts and numbers."""
    node = origin.node
    match node:
        case Source():
            expected = {} if node.expectations is None else node.expectations.expressions
            return ["source", node.topic, origin.port, node.schema.time, _plain(expected)]
        case Keyed():
            return _said(node.parent)
        case Transformed():
            return ["transformed", _plain(node.config), _said(node.parent)]
        case Branched():
            return ["branch", origin.port, _branches(node.branches), _said(node.parent)]
        case Operated():
            return ["operated", origin.port, node.by, _operator(node.config), _said(node.parent)]
        case Joined():
            sides = [_said(node.left), _said(node.right)]
            return ["joined", origin.port, node.left_by, node.right_by, _operator(node.config), *sides]
    raise AssertionError(f"{node!r} is of no kind that there is")


def _branches(branches: Branches) -> object:
    return _plain(branches.config)


def _operator(config: object) -> object:
    return getattr(config, "fingerprint", None) or _plain(config)


def _plain(value: object) -> object:
    """What a value says, with nothing in it of where it stands in memory."""
    match value:
        case str() | int() | float() | bytes() | None:
            return value
        case Mapping():
            return [[_plain(key), _plain(each)] for key, each in value.items()]
        case list() | tuple():
            return [_plain(each) for each in value]
        case set() | frozenset():
            return sorted(map(str, value))
    return _thing(value)


def _thing(value: object) -> object:
    match value:
        case pl.Expr():
            return _expression(value)
        case pl.DataType():
            return str(value)
        case FeatureView():
            return [value.topic, value.definition]
        case functools.partial():
            return [_plain(value.func), _plain(value.args), _plain(value.keywords)]
        case FunctionType() | MethodType():
            return _function(value)
    return _fields(value)


def _fields(value: object) -> object:
    """Of what has none it says the kind."""
    kind = type(value).__qualname__
    if not is_dataclass(value):
        return kind
    named = [[each.name, _plain(getattr(value, each.name))] for each in fields(value)]
    return [kind, [each for each in named if each[0] not in _LEFT_OUT]]


def _expression(expression: pl.Expr) -> str:
    """As Polars writes it down: as a text it leaves things out, such as to how many digits it rounds."""
    try:
        return expression.meta.serialize(format="json")
    except (pl.exceptions.PolarsError, ValueError):
        return str(expression)  # it has a function of Python in it


def _function(function: Callable[..., object]) -> list[str]:
    name = f"{function.__module__}.{function.__qualname__}"
    try:
        return [name, inspect.getsource(function)]
    except (OSError, TypeError):
        return [name]
