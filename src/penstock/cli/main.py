"""`penstock`: the commands, and how errors become messages and exit codes."""

import sys
from typing import Annotated

import typer

import penstock
from penstock.cli import config, dlq, drill, features, jobs, limits, log, model
from penstock.cli.output import print_error, print_text
from penstock.cli.predict import predict
from penstock.cli.run import run
from penstock.cli.status import status
from penstock.core.errors import PenstockError

__all__ = ["app", "main"]

app = typer.Typer(
    name="penstock",
    help="Serves and streams machine-learning models that keep their promises under any load.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command()(run)
app.command()(predict)
app.command()(status)
app.add_typer(model.app, name="model")
app.add_typer(limits.app, name="limits")
app.add_typer(jobs.app, name="jobs")
app.add_typer(log.app, name="log")
app.add_typer(dlq.app, name="dlq")
app.add_typer(features.app, name="features")
app.add_typer(drill.app, name="drill")
app.add_typer(config.app, name="config")


def _print_version(asked: bool) -> None:
    if asked:
        print_text(f"penstock {penstock.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Serves and streams machine-learning models that keep their promises under any load."""


def main() -> None:
    """The entry point. An error on purpose is a message and status 1, never a stack trace."""
    try:
        app()
    except PenstockError as error:
        print_error(error)
        sys.exit(1)
