"""Options that several commands share, and what becomes of them."""

import os
from pathlib import Path
from typing import Annotated

import typer

from penstock.core.errors import ConfigurationError, InvalidInput
from penstock.core.settings import LoadedSettings, load_settings

__all__ = [
    "ConfigOption",
    "JsonOption",
    "SetOption",
    "parse_metrics",
    "parse_pairs",
    "parse_parameters",
    "server_url",
    "settings_from",
]

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="Settings file (default: penstock.toml, if there is one).")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, e.g. batching.rows_max=256."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def settings_from(config: Path | None, overrides: list[str] | None, **flags: object) -> LoadedSettings:
    """Settings with the command's flags; a flag `server_port=None` was not given."""
    given: dict[str, object] = dict(parse_pairs(overrides, "--set"))
    given |= {key.replace("__", "."): value for key, value in flags.items() if value is not None}
    return load_settings(file=config, environment=os.environ, flags=given)


def server_url() -> str:
    """Where `penstock run` listens when it is started in the same folder."""
    server = settings_from(None, None).settings.server
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(server.host, server.host)  # noqa: S104 - asked, not bound
    return f"http://{f'[{host}]' if ':' in host else host}:{server.port}"


def parse_pairs(pairs: list[str] | None, option: str) -> dict[str, str]:
    """`KEY=VALUE` options as a dict. Raises `ConfigurationError` for one without `=`."""
    parsed: dict[str, str] = {}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise ConfigurationError(f"{option} {pair!r} is not KEY=VALUE")
        parsed[key.strip()] = value.strip()
    return parsed


def parse_metrics(pairs: list[str] | None) -> dict[str, float]:
    """`NAME=NUMBER` options. Raises `InvalidInput` for what is no number."""
    metrics: dict[str, float] = {}
    for name, value in parse_pairs(pairs, "--metric").items():
        try:
            metrics[name] = float(value)
        except ValueError:
            raise InvalidInput(f"--metric {name}={value!r} is not a number", where=name) from None
    return metrics


def parse_parameters(pairs: list[str] | None) -> dict[str, str | int | float | bool]:
    """`NAME=VALUE` options; numbers, true and false are taken as such, the rest as text."""
    return {name: _scalar(value) for name, value in parse_pairs(pairs, "--param").items()}


def _scalar(text: str) -> str | int | float | bool:
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
