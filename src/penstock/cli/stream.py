"""`penstock stream`: history into the streams of an app file."""

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.options import ConfigOption, SetOption, settings_from
from penstock.cli.output import say
from penstock.core.clock import SystemClock
from penstock.core.errors import NotFound

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Streams of an app file.")


@app.callback()
def root() -> None:
    """Streams of an app file."""


@app.command("feed")
def feed(
    app_file: Annotated[str, typer.Argument(metavar="APP", help="App file, or file:name of the App in it.")],
    stream: Annotated[str, typer.Argument(metavar="STREAM", help="A stream of it.")],
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Parquet files, in their order.")],
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Append the rows of Parquet files to a stream's topic. Begun again, it goes on where it was."""
    from penstock.app.loading import load_app
    from penstock.log.opening import open_from_settings
    from penstock.streams.feeding import Feeder

    clock = SystemClock()
    declared, path = load_app(app_file)
    sources = declared.streams.graph.sources
    if stream not in sources:
        known = ", ".join(sources) or "none"
        raise NotFound(f"{path} declares no stream {stream!r}", hint=f"it has {known}")
    with open_from_settings(settings_from(config, overrides).settings, clock) as log:
        feeder = Feeder(log, declared.name, sources[stream], lambda: int(clock.now().timestamp() * 1000))
        with closing(feeder):
            for file in files:
                say(f"{file}: {feeder.feed(file)} rows")
