"""What a user writes of a stream: what is done to its events, and where results go."""

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Literal

import polars as pl

from penstock.app.features import DeclaredFeatures
from penstock.app.joins import Table, join_streams, join_table
from penstock.app.late_scorer import ScoredInputs, scored_name, scored_outputs
from penstock.app.model_declarations import ModelDeclaration
from penstock.app.model_features import ModelFeatures
from penstock.app.stream_parts import (
    Columns,
    Declared,
    Duration,
    columns_of,
    milliseconds,
    send,
)
from penstock.app.views import Window, WindowedView, latest_view
from penstock.core.errors import ConfigurationError, shown
from penstock.streams.branching import BranchesConfig
from penstock.streams.decoding.formats import Format
from penstock.streams.deduplicating import DeduplicateConfig
from penstock.streams.graph import Branched, From, Keyed, Operated, Source, Transformed
from penstock.streams.looking_up import LookUp
from penstock.streams.mapping import AsyncMap, Map
from penstock.streams.plan import LATE, MAIN
from penstock.streams.scoring import Score
from penstock.streams.sinks import Sink
from penstock.streams.transforming import Beside, Drop, Filter, Rename, Select, TransformConfig, WithColumns

__all__ = ["Stream"]


class Stream:
    """A flow of events. Every method gives another one, and leaves this one as it is."""

    def __init__(self, declared: Declared, origin: From) -> None:
        self.declared = declared
        self.origin = origin

    @property
    def schema(self) -> pl.Schema:
        """The columns of its events."""
        return self.origin.node.schemas[self.origin.port]

    @property
    def late(self) -> "Stream":
        """The events that came later than the stream's lateness allows, as they were: of a stream as it was
        declared.

        They are in no window; without an output for them they are only counted.
        """
        if not isinstance(self.origin.node, Source):
            raise ConfigurationError(
                "only a stream as it is declared has late events", hint="write stream.late.into(...)"
            )
        return Stream(self.declared, From(self.origin.node, LATE))

    # One event at a time

    def filter(self, *predicates: pl.Expr) -> "Stream":
        """The events for which all predicates are true."""
        if not predicates:
            raise ConfigurationError("filter() has no predicate", hint='for example pl.col("distance") > 0')
        predicate = predicates[0] if len(predicates) == 1 else pl.all_horizontal(*predicates)
        return self._transformed(Filter(predicate=predicate), keeps=set(self.schema))

    def with_columns(self, *expressions: pl.Expr, **named: pl.Expr) -> "Stream":
        """All columns, and these; of the same name in place of the old one."""
        every = (*expressions, *(expression.alias(name) for name, expression in named.items()))
        changed = {name for each in every for name in _names(each, self.schema)}
        return self._widened(WithColumns(expressions=every), changed)

    def with_made_of(self, columns: Sequence[str], expressions: Sequence[pl.Expr]) -> "Stream":
        """Likewise, by expressions to which the stream has these columns alone."""
        seen = pl.Schema({name: self.schema[name] for name in columns})
        changed = {name for each in expressions for name in _names(each, seen)}
        return self._widened(Beside(of=columns, expressions=expressions), changed)

    def select(self, *expressions: str | pl.Expr, **named: pl.Expr) -> "Stream":
        """These columns alone."""
        every = (
            *(pl.col(each) if isinstance(each, str) else each for each in expressions),
            *(expression.alias(name) for name, expression in named.items()),
        )
        same = {name for name in self.schema if any(each.meta.eq(pl.col(name)) for each in every)}
        return self._transformed(Select(expressions=every), keeps=same)

    def rename(self, names: Mapping[str, str]) -> "Stream":
        keeps = set(self.schema) - set(names) - set(names.values())
        return self._transformed(Rename(names=names), keeps=keeps)

    def drop(self, *names: str) -> "Stream":
        return self._transformed(Drop(names=names), keeps=set(self.schema) - set(names))

    def map(
        self,
        function: Callable[[pl.DataFrame], pl.DataFrame] | Callable[[pl.DataFrame], Awaitable[pl.DataFrame]],
        *,
        schema: Mapping[str, object] | None = None,
        concurrency: int = 16,
        keeps: Columns | None = None,
    ) -> "Stream":
        """What the function makes of frames of events. It may look at one row at a time only: how events are
        cut into frames is not up to it. `schema` are the columns it gives; without, a plain function is tried
        on a frame without rows. `keeps` are columns that it promises to leave as they are: only a key among
        them goes on being the stream's key.

        Rows on which it raises become dead letters; the others go on. An async function is called with parts
        of a frame, up to `concurrency` of them at once. After a crash it may be called again with the same
        rows.
        """
        gives = None if schema is None else pl.Schema(schema)  # type: ignore[arg-type]
        kept = columns_of(keeps, self.schema, "map: keeps")
        if not inspect.iscoroutinefunction(function):
            config = Map(function=function, schema=gives)  # type: ignore[arg-type]
            return self._mapped(config, kept)
        if gives is None:
            raise ConfigurationError(
                f"map({function.__qualname__}) is async and has no schema", hint="give schema={column: type}"
            )
        calls = self.declared.calls
        waiting = AsyncMap(function=function, schema=gives, calls=calls, concurrency=concurrency)
        return self._mapped(waiting, kept)

    def branch(
        self, *, otherwise: str | None = None, all_matches: bool = False, **predicates: pl.Expr
    ) -> "dict[str, Stream]":
        """A stream for each predicate, by its name: the events for which it is the first that is true (with
        `all_matches`: for which it is true). `otherwise` names the stream of all others, which else are left
        out.
        """
        branches = BranchesConfig(predicates=predicates, otherwise=otherwise, all_matches=all_matches).build(
            self.schema
        )
        names = (*predicates, *((otherwise,) if otherwise is not None else ()))
        node = Branched(
            schemas=dict.fromkeys(names, self.schema),
            key=self.origin.node.key,
            parent=self.origin,
            branches=branches,
        )
        return _ByBranch({name: Stream(self.declared, From(node, name)) for name in names})

    # Several events

    def repartition(self, key: Columns, *, partitions: int | None = None) -> "Stream":
        """The same events, those with the same key in the same partition. Windows and joins do so by themselves
        where they need it.
        """
        by = columns_of(key, self.schema, "repartition")
        node = Keyed(schemas={MAIN: self.schema}, key=by, parent=self.origin, partitions=partitions)
        return Stream(self.declared, From(node))

    def window(
        self,
        *,
        key: Columns,
        over: Duration | None = None,
        every: Duration | None = None,
        gap: Duration | None = None,
        name: str | None = None,
        keys_max: int | None = None,
    ) -> "Window":
        """Events of a key over a time, for aggregates: `stream.window(...).agg(n=ps.count())`.

        Windows are `over` long, and one begins each `every`; without it, as soon as the one before has ended.
        With `gap` instead they are sessions, which end when a key has had no event for so long. At most
        `keys_max` keys are kept; the one not seen for longest goes first, and is counted. `name` is what the
        state is kept under.
        """
        return Window(self, key=key, over=over, every=every, gap=gap, name=name, keys_max=keys_max)

    def latest(
        self, *, key: Columns, ttl: Duration, columns: Columns | None = None, name: str | None = None
    ) -> "WindowedView":
        """The last value of each of the `columns` (default: all numbers and booleans) under a key, for
        features: none that is older than `ttl` of event time.
        """
        return latest_view(self, key=key, ttl=ttl, columns=columns, name=name)

    def enrich(self, view: "WindowedView | DeclaredFeatures") -> "Stream":
        """Each event with the view's aggregates as columns, as of the event: over the windows' time up to its
        own, itself among them. Of features also their expressions, and defaults for what is not known.
        """
        if not isinstance(view, WindowedView | DeclaredFeatures):
            raise ConfigurationError(
                f"a stream is not enriched by {shown(view)}",
                hint="by a window with its aggregates: stream.window(...).agg(n=ps.count())",
            )
        return view.read_by(self)

    def look_up(self, view: DeclaredFeatures, *, key: Columns | None = None) -> "Stream":
        """Each event with features that another stream learns, as they were known when the event was worked on,
        for the event's own time; with their defaults for what was not known. `key` are the columns that are the
        view's key (default: those of its names).

        As in a request, what is known by then is not what will be known later. For the same again however often
        a stream is read, join a table, `as_of`.
        """
        if not isinstance(view, DeclaredFeatures):
            raise ConfigurationError(
                f"a stream cannot look up {shown(view)}", hint="give what app.features(...) gave"
            )
        of = view.view
        columns = of.key_names if key is None else (key,) if isinstance(key, str) else tuple(key)
        if len(columns) != len(of.keys):
            raise ConfigurationError(
                f"features {of.name!r} have a key of {', '.join(of.key_names)}, not of {len(columns)} columns"
            )
        source = self.declared.looked_up
        source.views[of.name] = of
        return self._widened(LookUp(view=of, columns=columns, source=source), set(of.feature_names))

    def join(  # noqa: PLR0913 - likewise
        self,
        other: "Stream",
        *,
        key: Columns,
        right_key: Columns | None = None,
        before: Duration = 0,
        after: Duration = 0,
        how: Literal["inner", "left"] = "inner",
        suffix: str = "_right",
        name: str | None = None,
    ) -> "Stream":
        """Each event with every event of `other` that has the same key and is at most `before` older and
        `after` younger. `how="left"` also gives events that met none, once none can come any more.

        Columns of `other` that this stream has as well get the suffix; the time is this stream's.
        """
        node = join_streams(
            *(self, other),
            key=key,
            right_key=right_key,
            before=before,
            after=after,
            how=how,
            suffix=suffix,
            name=name,
        )
        return Stream(self.declared, From(node))

    def join_table(
        self,
        table: Table,
        *,
        key: Columns | None = None,
        mode: Literal["latest", "as_of"] = "latest",
        ttl: Duration = "365d",
        suffix: str = "_right",
        name: str | None = None,
    ) -> "Stream":
        """Each event with what the table has under its key (the columns `key`; default: those of the table), or
        nulls: `latest`, as far as the table is read by then; or `as_of` the event's time, for which the event
        waits until the table has come that far. A record of the table holds for `ttl` of event time.
        """
        node = join_table(self, table, key=key, mode=mode, ttl=ttl, suffix=suffix, name=name)
        return Stream(self.declared, From(node))

    def deduplicate(
        self, key: Columns, *, within: Duration, name: str | None = None, events_max: int = 5_000_000
    ) -> "Stream":
        """Without the events whose key was there before, `within` so much event time: what was sent twice
        counts once. At most `events_max` events are remembered in each partition.
        """
        by = columns_of(key, self.schema, "deduplicate")
        config = DeduplicateConfig(
            key=by, within_ms=milliseconds(within, "within of deduplicate"), events_max=events_max
        )
        kept = self.origin.node.key
        node = Operated(
            name=name or f"deduplicate {'.'.join(by)}",
            schemas={MAIN: self.schema},
            key=kept if kept and set(kept) <= set(by) else by,
            parent=self.origin,
            config=config,
            by=by,
        )
        self.declared.graph.add_operated(node)
        return Stream(self.declared, From(node))

    def score(
        self,
        model: ModelDeclaration | str,
        *,
        outputs: Mapping[str, object] | None = None,
        inputs: Mapping[str, str | Sequence[str]] | None = None,
        into: str | Sink | None = None,
    ) -> "Stream":
        """Each event with what a model of the app gives for it: the `outputs` that are named, with their Polars
        types; `prediction_id`, the same for the same event for ever; `model_version`; and `model_rung`, what
        answered in the model's place (null: nothing did).

        Inputs take the columns of their names; `inputs` names others, for a matrix a list of columns. The
        version is what the model's alias names at the time, as for requests. A row that the model cannot take
        becomes a dead letter; where the model answers nobody, all wait. `into` sends the result to a topic or
        another sink, too.

        Features of the model that the stream does not have yet are added: of its own windows as of the event
        (`enrich`), of other streams as they are known (`look_up`).
        """
        name = scored_name(model)
        gives = scored_outputs(name, outputs)
        scorer = self.declared.scorer
        named = dict(inputs or {})
        if isinstance(model, ModelDeclaration) and model.features is not None:
            stream = self._with_features(model.features)
            if stream is not self:
                return stream.score(model, outputs=outputs, inputs=inputs, into=into)
        scorer.declared.append(ScoredInputs(model=name, named=named, columns=self.schema))
        config = Score(model=name, inputs=named, outputs=gives, scorer=scorer)
        scored = self._widened(config, set(config.build(self.schema).schema) - set(self.schema))
        if into is not None:
            scored.into(into)
        return scored

    def into(
        self,
        sink: str | Sink,
        *,
        key: Columns | None = None,
        partitions: int | None = None,
        format: Format = "json",  # noqa: A002 - as it is written
        name: str | None = None,
    ) -> None:
        """Sends the events to a topic, by its name, or to another sink. `key` says which events keep their
        order in a topic of several partitions.
        """
        send(self.declared, self.origin, sink, key=key, partitions=partitions, format=format, name=name)

    def _with_features(self, features: ModelFeatures) -> "Stream":
        """With all that a model takes of views."""
        stream = self
        for view in features.views:
            if set(view.feature_names) <= set(stream.schema):
                continue
            declared = self.declared.features.get(view.name)
            if declared is None:
                raise ConfigurationError(
                    f"features {view.name!r} are of another app than the stream",
                    hint="declare them in this app, or look them up under names of its own",
                )
            if declared.windowed.reads(stream):
                stream = stream.enrich(declared)
            else:
                stream = stream.look_up(declared, key=[features.keys.get(key, key) for key in view.key_names])
        return stream

    def _mapped(self, config: TransformConfig, kept: tuple[str, ...]) -> "Stream":
        mapped = self._transformed(config, keeps=set(kept))
        columns_of(kept, mapped.schema, "map: keeps, of what the function gives")
        return mapped

    def _widened(self, config: TransformConfig, changed: set[str]) -> "Stream":
        """The same rows, with these columns added or changed."""
        return self._transformed(config, keeps=set(self.schema) - changed, changes=frozenset(changed))

    def _transformed(
        self, config: TransformConfig, *, keeps: set[str], changes: frozenset[str] | None = None
    ) -> "Stream":
        """`keeps` are the columns whose values stay as they are; `changes` as `Transformed` has it."""
        transform = config.build(self.schema)
        key = self.origin.node.key
        node = Transformed(
            schemas={MAIN: transform.schema},
            key=key if set(key) <= keeps & set(transform.schema) else (),
            parent=self.origin,
            transform=transform,
            changes=changes,
            config=config,
        )
        return Stream(self.declared, From(node))


class _ByBranch(dict[str, Stream]):
    def __missing__(self, name: object) -> Stream:
        raise ConfigurationError(
            f"there is no branch {shown(name)}", hint=f"the branches are {', '.join(self)}"
        )


def _names(expression: object, schema: pl.Schema) -> list[str]:
    """The columns that an expression gives; none where it cannot work, which is told of later."""
    if not isinstance(expression, pl.Expr):
        return []
    try:
        return pl.LazyFrame(schema=schema).select(expression).collect_schema().names()
    except pl.exceptions.PolarsError:
        return []
