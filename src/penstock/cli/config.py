"""`penstock config`: what is set, and where it came from."""

import re

import typer

from penstock.cli.options import ConfigOption, JsonOption, SetOption, settings_from
from penstock.cli.output import print_json, print_table

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Settings.")

# To the last @: a password with one in it should have been escaped, but is no less a secret.
_PASSWORD = re.compile(r"(?<=://)([^:/@]*):.*@")


@app.callback()
def root() -> None:
    """Settings."""


@app.command()
def show(config: ConfigOption = None, overrides: SetOption = None, as_json: JsonOption = False) -> None:
    """Print each setting, its value and where that came from."""
    rows = [
        (key, _masked(key, value), origin) for key, value, origin in settings_from(config, overrides).rows()
    ]
    if as_json:
        print_json({key: {"value": value, "origin": origin} for key, value, origin in rows})
    else:
        print_table(("setting", "value", "from"), rows)


def _masked(key: str, value: object) -> object:
    """A secret as stars, a database's URL without its password."""
    if key.endswith(("_secret", "password")):
        return "***" if value else ""
    return _PASSWORD.sub(r"\1:***@", value) if isinstance(value, str) and "://" in value else value
