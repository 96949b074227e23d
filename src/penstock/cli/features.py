"""`penstock features`: views, their history, and training sets."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from penstock.cli.online_features import show, status
from penstock.cli.options import ConfigOption, JsonOption, SetOption, parse_pairs, settings_from
from penstock.cli.output import print_json, print_table, say
from penstock.core.clock import SystemClock
from penstock.core.durations import shown_ms
from penstock.core.errors import ConfigurationError, InvalidInput, NotFound, shown
from penstock.core.settings import Settings

if TYPE_CHECKING:
    import polars as pl

    from penstock.app.backfill import Backfilled
    from penstock.app.features import DeclaredFeatures
    from penstock.streams.delta import DeltaSink
    from penstock.streams.parquet import ParquetSink

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Feature views: what they are, their history, training sets.")
app.command()(show)
app.command()(status)

TOPIC = "topic"
AppFile = Annotated[str, typer.Argument(metavar="APP", help="App file, or file:name of the App in it.")]


@app.command("list")
def list_views(app_file: AppFile, as_json: JsonOption = False) -> None:
    """List the views that an app file declares, with their features and defaults."""
    views = list(_views(app_file).values())
    if as_json:
        print_json([_view_shown(each) for each in views])
        return
    if not views:
        say(f"{app_file} declares no features")
        return
    print_table(
        ("view", "key", "feature", "type", "default", "stale after", "history"),
        (
            (
                each.name,
                ", ".join(each.view.key_names),
                feature.name,
                feature.datatype.value,
                feature.default,
                shown_ms(each.view.stale_s * 1000) if each.view.stale_s is not None else "never",
                each.history.folder if each.history is not None else "none",
            )
            for each in views
            for feature in each.view.features
        ),
    )


@app.command()
def join(  # noqa: PLR0913, PLR0917 - the options of one command
    app_file: AppFile,
    labels: Annotated[
        Path, typer.Argument(metavar="LABELS", exists=True, dir_okay=False, help="A Parquet file of labels.")
    ],
    view: Annotated[list[str], typer.Option("--view", metavar="NAME", help="A view of the app (repeatable).")],
    time: Annotated[str, typer.Option("--time", metavar="COLUMN", help="When each label was asked for.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Write this Parquet file.")],
    available: Annotated[
        str | None,
        typer.Option("--available", metavar="COLUMN", help="Until when updates count (default: the time)."),
    ] = None,
    by: Annotated[
        Literal["available_at", "event_time"],
        typer.Option("--by", help="Updates count by when they were in the log, or by the stream's time."),
    ] = "available_at",
    key: Annotated[
        list[str] | None,
        typer.Option("--key", metavar="KEY=COLUMN", help="Which column of the labels a key is in."),
    ] = None,
    history: Annotated[
        list[str] | None,
        typer.Option("--history", metavar="VIEW=FOLDER", help="Read this history, not the declared one."),
    ] = None,
) -> None:
    """Join labels with the features that were known when each was asked for."""
    import polars as pl

    from penstock.app.training import training_set

    views = _views(app_file)
    chosen = [_view(views, name) for name in view]
    try:
        read = pl.read_parquet(labels)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InvalidInput(f"{labels} cannot be read: {error}", where=str(labels)) from error
    joined = training_set(
        read,
        *chosen,
        time=time,
        available=available,
        by=by,
        keys=parse_pairs(key, "--key"),
        histories=parse_pairs(history, "--history"),
    )
    _write(joined, out)
    say(f"{joined.height} rows with {joined.width - read.width} features in {out}")


@app.command()
def backfill(  # noqa: PLR0913, PLR0917 - likewise
    app_file: AppFile,
    view: Annotated[str, typer.Argument(metavar="VIEW", help="A view of the app.")],
    source: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="SOURCE",
            help="A Parquet file, a folder or pattern of them, a Delta table; or topic, or topic:NAME.",
        ),
    ],
    into: Annotated[
        Path | None,
        typer.Option("--into", metavar="FOLDER", help="Append to this history (default: the declared one)."),
    ] = None,
    online: Annotated[
        bool, typer.Option("--online", help="Let it be read, too, of keys of which nothing is known.")
    ] = False,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace",
            help="Let it hold in place of all that the history says from its first event to its last.",
        ),
    ] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Compute a view's history from older events, as if each had been available when it was.

    Done again with the same events it adds nothing; what was interrupted goes on.
    """
    from penstock.app.backfill import backfill as done
    from penstock.features.embedded import EmbeddedOnlineStore

    settings = settings_from(config, overrides).settings
    features = _view(_views(app_file), view)
    sink = _sink(features, into, online=online)
    _check_replaced(view, sink, replace=replace)
    events = _events(features, source, settings)
    store = EmbeddedOnlineStore(Path(settings.home)) if online else None
    came = done(features, events, into=sink, online=store, clock=SystemClock(), replace=replace)
    if as_json:
        print_json(_shown(came))
        return
    _say(came, online=online)


@app.command()
def verify(
    app_file: AppFile,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model with features.")],
    as_json: JsonOption = False,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Hold what was served against the histories of the views, bit for bit; status 1 where any differs."""
    from penstock.app.loading import load_app
    from penstock.app.verifying import verify as done
    from penstock.log.opening import open_from_settings

    loaded, _ = load_app(app_file)
    with open_from_settings(settings_from(config, overrides).settings, SystemClock()) as log:
        found = done(loaded, model, log)
    if as_json:
        print_json({name: vars(each) for name, each in found.items()})
    else:
        names = ("rows", "same", "different", "absent", "unplaced", "other")
        counts = ((view, *(getattr(each, name) for name in names)) for view, each in found.items())
        print_table(("view", *names), counts)
        for view, each in found.items():
            for example in each.examples:
                say(f"{view}: {example}")
    if any(each.different for each in found.values()):
        raise typer.Exit(1)


def _say(came: "Backfilled", *, online: bool) -> None:
    kept = came.rows - came.written
    say(
        f"{came.events} events, {came.written} rows of history written"
        + (f", {kept} were there" if kept else "")
    )
    for reason, count in sorted(came.refused.items()):
        say(f"{count} refused: {reason}")
    if online:
        say(f"{came.online} keys can be read of which nothing was known")


def _shown(came: "Backfilled") -> dict[str, object]:
    return {
        "events": came.events,
        "rows": came.rows,
        "written": came.written,
        "online": came.online,
        "refused": dict(came.refused),
    }


def _check_replaced(view: str, sink: object, *, replace: bool) -> None:
    if replace and sink is None:
        raise ConfigurationError(
            f"--replace: features {view!r} keep no history that could be replaced",
            hint="name its folder by --into, or leave --replace out",
        )


def _sink(features: "DeclaredFeatures", into: Path | None, *, online: bool) -> "ParquetSink | DeltaSink | None":
    from penstock.app.backfill import history_sink

    if into is not None:
        return history_sink(into)
    if features.history is None and not online:
        raise ConfigurationError(
            f"features {features.name!r} keep no history", hint="name a folder by --into, or give --online"
        )
    return features.history


def _events(features: "DeclaredFeatures", source: str, settings: Settings) -> "pl.DataFrame":
    from penstock.app.backfill import events_of_files, events_of_topic

    kind, _, name = source.partition(":")
    if kind != TOPIC:
        return events_of_files(features, Path(source))
    from penstock.log.opening import open_from_settings

    clock = SystemClock()
    with open_from_settings(settings, clock) as log:
        return events_of_topic(features, log, name or None, int(clock.now().timestamp() * 1000))


def _views(app_file: str) -> "dict[str, DeclaredFeatures]":
    from penstock.app.loading import load_app

    loaded, _ = load_app(app_file)
    return dict(loaded.streams.features) if loaded.has_streams else {}


def _view(views: "dict[str, DeclaredFeatures]", name: str) -> "DeclaredFeatures":
    if name not in views:
        raise NotFound(
            f"there is no view {shown(name)}",
            hint=f"there are {', '.join(views)}" if views else "the app has none",
        )
    return views[name]


def _write(frame: "pl.DataFrame", path: Path) -> None:
    from penstock.core.durable_files import replace_file

    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    try:
        replace_file(path, buffer.getvalue())
    except OSError as error:
        raise InvalidInput(f"{path} cannot be written: {error.strerror}", where=str(path)) from error


def _view_shown(each: "DeclaredFeatures") -> dict[str, object]:
    features = each.view.features
    return {
        "view": each.name,
        "keys": [{"name": key.name, "datatype": key.datatype.value} for key in each.view.keys],
        "features": [
            {"name": spec.name, "datatype": spec.datatype.value, "default": spec.default} for spec in features
        ],
        "stale_s": each.view.stale_s,
        "topic": each.view.topic,
        "history": None if each.history is None else str(each.history.folder),
    }
