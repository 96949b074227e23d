"""`penstock run`: serve an app file."""

import logging
from typing import Annotated

import typer

from penstock.cli.options import ConfigOption, SetOption, settings_from
from penstock.cli.output import say

__all__ = ["run"]


def run(
    app_file: Annotated[str, typer.Argument(metavar="APP", help="App file, or file:name of the App in it.")],
    host: Annotated[
        str | None, typer.Option(help="Address to listen on (default 127.0.0.1: this machine only).")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Serve the models that an app file declares, until Ctrl-C."""
    import uvloop

    import penstock
    from penstock.app.loading import load_app
    from penstock.app.serving import serve
    from penstock.core.clock import SystemClock

    settings = settings_from(config, overrides, server__host=host, server__port=port).settings
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    # Its account of making the tables is not what someone who starts a server wants to read.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    app, file = load_app(app_file)
    say(f"penstock {penstock.__version__}  app {app.name}")
    uvloop.run(serve(app, file, settings, clock=SystemClock(), version=penstock.__version__, report=say))
