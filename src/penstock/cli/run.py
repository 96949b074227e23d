"""`penstock run`: serve an app file's models, and work on its streams."""

from typing import Annotated

import typer

from penstock.cli.options import ConfigOption, SetOption, settings_from
from penstock.cli.output import say
from penstock.core.settings import Settings

__all__ = ["run"]


def run(  # noqa: PLR0913, PLR0917 - a command's options
    app_file: Annotated[str, typer.Argument(metavar="APP", help="App file, or file:name of the App in it.")],
    host: Annotated[
        str | None, typer.Option(help="Address to listen on (default 127.0.0.1: this machine only).")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
    grpc_port: Annotated[int | None, typer.Option(help="Port for gRPC (default: none).")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that share the port (default 1).")] = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Serve the models that an app file declares, and work on its streams, until Ctrl-C."""
    import asyncio

    import penstock
    from penstock.app.logs import configure_logs
    from penstock.app.serving import serve
    from penstock.core.clock import SystemClock

    def read_settings() -> Settings:
        return settings_from(
            config,
            overrides,
            server__host=host,
            server__port=port,
            server__grpc_port=grpc_port,
            server__workers=workers,
        ).settings

    configure_logs(read_settings(), "supervisor")
    asyncio.run(serve(app_file, read_settings, clock=SystemClock(), version=penstock.__version__, report=say))
