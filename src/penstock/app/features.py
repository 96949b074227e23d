"""Feature views as an app declares them: a window under a key, and what is made of it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from penstock.app.definitions import definition_of
from penstock.app.stream_parts import Declared, Duration
from penstock.app.views import WindowedView
from penstock.core.durations import duration_s
from penstock.core.errors import ConfigurationError, shown
from penstock.core.tensors import DataType
from penstock.features.history import HISTORY_COLUMNS, column_types
from penstock.features.view import Feature, FeatureView, KeyColumn
from penstock.streams.delta import DeltaSink
from penstock.streams.expectations import Expectations
from penstock.streams.feature_views.feature_rows import FeatureRowsConfig
from penstock.streams.feature_views.history_output import HistorySink
from penstock.streams.feature_views.online_output import OnlineSink
from penstock.streams.feature_views.updates_output import UPDATE_SCHEMA, UpdatesSink, well_formed
from penstock.streams.graph import From, Sent, Source, plain_name, sources_of
from penstock.streams.parquet import ParquetSink
from penstock.streams.plan import MAIN
from penstock.streams.schema import StreamSchema
from penstock.streams.sinks import Sink
from penstock.streams.transforming import WithColumns
from penstock.streams.windows import WindowConfig

if TYPE_CHECKING:
    from penstock.app.streams import Stream

__all__ = ["DeclaredFeatures", "FeatureOptions", "declare_features"]

STEPS_MAX = 1024
VALUES_MAX = 32_768
"""Of one key, of all steps together: 256 KiB."""
"""Of a window: a timeline has as many rows, at most, and one more."""
FAR_MS = 10 * 365 * 86_400_000
"""A clock may jump by so much, and no update is late or early for that."""


@dataclass(frozen=True, kw_only=True)
class FeatureOptions:
    """What `App.features` is given beside the window."""

    expressions: tuple[pl.Expr, ...] = ()
    defaults: Mapping[str, float] | None = None
    stale: Duration | None = None
    history: Sink | None = None


@dataclass(frozen=True, kw_only=True)
class DeclaredFeatures:
    """A feature view of an app: what models read by key, and streams as of their events."""

    view: FeatureView
    windowed: WindowedView
    expressions: tuple[pl.Expr, ...]
    history: ParquetSink | DeltaSink | None
    declared: Declared = field(repr=False)

    @property
    def name(self) -> str:
        return self.view.name

    @property
    def history_folder(self) -> Path:
        """Raises `ConfigurationError` where it keeps no history."""
        if self.history is None:
            raise ConfigurationError(
                f"features {self.name!r} keep no history",
                hint='declare one: history=ps.delta("history"), or name the folder of one',
            )
        return self.history.folder

    @property
    def rows(self) -> FeatureRowsConfig:
        """What makes features of the window's updates."""
        return FeatureRowsConfig(view=self.view, schema=self.windowed.known, expressions=self.expressions)

    def read_by(self, stream: "Stream") -> "Stream":
        """See `Stream.enrich`: the features, in their types, with defaults for what is not known."""
        made = [name for name in self.view.feature_names if name not in self.windowed.known]
        taken = [name for name in made if name in stream.schema]
        if taken:
            raise ConfigurationError(
                f"features {self.name!r}: the stream has a column {taken[0]!r} already",
                hint="name it otherwise",
            )
        types = column_types(self.view)
        enriched = self.windowed.read_by(stream)
        if self.expressions:
            enriched = enriched.with_made_of(self.windowed.known.names(), self.expressions)
        return enriched.with_columns(
            *(
                pl.col(each.name).cast(types[each.name]).fill_null(pl.lit(each.default, types[each.name]))
                for each in self.view.features
            )
        )


def declare_features(
    declared: Declared, name: str, windowed: object, options: FeatureOptions
) -> DeclaredFeatures:
    """See `App.features`."""
    what = f"features {shown(name)}"
    if not isinstance(windowed, WindowedView):
        raise ConfigurationError(
            f"{what}: {shown(windowed)} is no window with its aggregates",
            hint="give stream.window(...).agg(n=ps.count()) or stream.latest(key=..., ttl=...)",
        )
    if name in declared.features:
        raise ConfigurationError(f"app {declared.graph.app!r} declares {what} twice")
    _check_window(windowed, what)
    view = FeatureView(
        name=name,
        keys=_keys(windowed, what),
        features=_features(windowed, options, what),
        topic=f"{plain_name(declared.graph.app)}.{plain_name(name)}.features",
        stale_s=None if options.stale is None else _stale_s(options.stale, what),
        app=declared.graph.app,
        definition=definition_of(windowed, options.expressions),
    )
    _check_size(windowed, len(view.features), what)
    features = DeclaredFeatures(
        view=view,
        windowed=windowed,
        expressions=options.expressions,
        history=_history(options.history, what),
        declared=declared,
    )
    _send(declared, features)
    declared.features[name] = features
    return features


def _send(declared: Declared, features: DeclaredFeatures) -> None:
    """From the window to the view's topic, and from there to the online store and to the history."""
    view, graph = features.view, declared.graph
    origin = From(features.windowed.node)
    # A join's watermark is that of the side that is behind: with the least of both, time is never ahead of it.
    lateness_ms = min(source.lateness_ms for source in sources_of(origin))
    updates = features.windowed.updated(lateness_ms)
    schema = StreamSchema.of(UPDATE_SCHEMA)
    columns = pl.Schema(schema.columns)
    source = Source(
        name=f"{view.name}.features",
        topic=view.topic,
        schemas={MAIN: columns},
        schema=schema,
        form="arrow",
        lateness_ms=FAR_MS,
        ahead_ms=FAR_MS,
        expectations=Expectations.of({"a timeline": well_formed(view)}, columns),
        made_of=updates,
    )
    graph.add_source(source)
    sink = UpdatesSink(rows=features.rows, lateness_ms=lateness_ms)
    graph.add_output(Sent(name=sink.title, parent=updates, sink=sink))
    goes_on = all(each.idle_ms is not None for each in sources_of(origin))
    online = OnlineSink(view=view, goes_on=goes_on)
    graph.add_output(Sent(name=online.title, parent=From(source), sink=online))
    if features.history is not None:
        history = HistorySink(view=view, sink=features.history)
        graph.add_output(Sent(name=history.title, parent=From(source), sink=history))


def _check_window(windowed: WindowedView, what: str) -> None:
    config = windowed.config
    if not isinstance(config, WindowConfig):
        raise ConfigurationError(
            f"{what}: sessions are known once they are over, and so are no features",
            hint="take a window with over=, and every=",
        )
    steps = config.over_ms // config.step_ms
    if steps > STEPS_MAX:
        raise ConfigurationError(
            f"{what}: {windowed.name!r} has {steps} steps, and features can change with each",
            hint=f"give the window every=, at least {-(-config.over_ms // STEPS_MAX)}ms",
        )


def _check_size(windowed: WindowedView, features: int, what: str) -> None:
    config = windowed.config
    assert isinstance(config, WindowConfig), "others were refused"
    steps, steps_max = config.over_ms // config.step_ms, VALUES_MAX // features
    if steps > steps_max:
        raise ConfigurationError(
            f"{what}: {windowed.name!r} has {steps} steps with {features} features each, and a key keeps all",
            hint=f"give the window every=, at least {-(-config.over_ms // steps_max)}ms, or split the view",
        )


def _keys(windowed: WindowedView, what: str) -> tuple[KeyColumn, ...]:
    keys = []
    for name in windowed.config.keys:
        dtype = windowed.known[name]
        datatype = _key_type(dtype)
        if datatype is None:
            raise ConfigurationError(
                f"{what}: the key column {name!r} is of {dtype}",
                hint="a key is text, signed integers of up to 64 bits, or booleans: cast it before the window",
            )
        _check_name(name, what)
        keys.append(KeyColumn(name=name, datatype=datatype))
    return tuple(keys)


def _key_type(dtype: pl.DataType) -> DataType | None:
    if isinstance(dtype, pl.String | pl.Categorical | pl.Enum):
        return DataType.STRING
    if dtype == pl.Boolean():
        return DataType.BOOL
    return DataType.INT64 if _fits_int64(dtype) else None


def _fits_int64(dtype: pl.DataType) -> bool:
    return dtype.is_integer() and not isinstance(dtype, pl.UInt64 | pl.Int128 | pl.UInt128)


def _features(windowed: WindowedView, options: FeatureOptions, what: str) -> tuple[Feature, ...]:
    schema = windowed.known
    if options.expressions:
        schema = WithColumns(expressions=options.expressions).build(schema).schema
    keys = windowed.config.keys
    changed = next((name for name in keys if schema[name] != windowed.known[name]), None)
    if changed is not None or any(_gives(each) in keys for each in options.expressions):
        raise ConfigurationError(
            f"{what}: an expression changes the key", hint="give it another name by .alias"
        )
    defaults = _checked_defaults(options.defaults, [name for name in schema if name not in keys], what)
    features = []
    for name, dtype in schema.items():
        if name in keys:
            continue
        _check_name(name, what)
        datatype = _feature_type(dtype)
        if datatype is None:
            raise ConfigurationError(
                f"{what}: {name!r} is of {dtype}, and a feature is a number or a truth value",
                hint=f"make it one by an expression of the same name, such as {_remedy(name, dtype)}",
            )
        default = _default(f"{what}: the default of {name!r}", datatype, defaults.get(name))
        features.append(Feature(name=name, datatype=datatype, default=default))
    return tuple(features)


def _gives(expression: object) -> str | None:
    if not isinstance(expression, pl.Expr):
        return None
    return expression.meta.output_name(raise_if_undetermined=False)


def _remedy(name: str, dtype: pl.DataType) -> str:
    if isinstance(dtype, pl.Datetime | pl.Date):
        return f'pl.col("{name}").dt.epoch("ms")'
    if isinstance(dtype, pl.Duration):
        return f'pl.col("{name}").dt.total_milliseconds()'
    return f'pl.col("{name}").cast(pl.Float64)'


def _feature_type(dtype: pl.DataType) -> DataType | None:
    if isinstance(dtype, pl.Float32 | pl.Float64):
        return DataType.FP64
    if dtype == pl.Boolean():
        return DataType.BOOL
    return DataType.INT64 if _fits_int64(dtype) else None


def _checked_defaults(defaults: Mapping[str, float] | None, names: list[str], what: str) -> Mapping[str, float]:
    given = dict(defaults or {})
    unknown = [name for name in given if name not in names]
    if unknown:
        raise ConfigurationError(
            f"{what}: there is no feature {shown(unknown[0])} to have a default",
            hint=f"its features are {', '.join(names)}",
        )
    return given


def _default(what: str, datatype: DataType, given: object) -> float | int | bool:
    match datatype, given:
        case DataType.FP64, None:
            return math.nan
        case DataType.INT64, None:
            return 0
        case DataType.BOOL, None:
            return False
        case DataType.BOOL, bool():
            return given
        case DataType.FP64, float() | int() if not isinstance(given, bool):
            return float(given)
        case DataType.INT64, int() if not isinstance(given, bool) and -(2**63) <= given < 2**63:
            return given
    wanted = {DataType.FP64: "a number", DataType.INT64: "an integer", DataType.BOOL: "True or False"}
    raise ConfigurationError(f"{what} is {shown(given)}, not {wanted[datatype]}")


def _check_name(name: str, what: str) -> None:
    if name in HISTORY_COLUMNS:
        raise ConfigurationError(
            f"{what}: no column can be called {name!r}, which a history has of its own", hint="rename it"
        )


def _stale_s(stale: Duration, what: str) -> float:
    stale_s = duration_s(stale, f"stale of {what}")
    if stale_s <= 0:
        raise ConfigurationError(f"{what}: stale is {shown(stale)}, not above 0", hint='for example stale="1m"')
    return stale_s


def _history(sink: object, what: str) -> ParquetSink | DeltaSink | None:
    if sink is None or isinstance(sink, ParquetSink | DeltaSink):
        return sink
    raise ConfigurationError(
        f"{what}: {shown(sink)} can have no history",
        hint='give history=ps.delta("history") or ps.parquet("history")',
    )
