"""`penstock limits`: rate limits, changed while servers run."""

from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import typer

from penstock.cli.options import ConfigOption, JsonOption, SetOption, settings_from
from penstock.cli.output import print_json, print_table, say
from penstock.core.errors import NotFound, shown

if TYPE_CHECKING:
    from penstock.app.declarations import App
    from penstock.app.stored_limits import StoredLimits

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="How often a tenant may ask a model; servers follow at once.")

Tenant = Annotated[str | None, typer.Option(metavar="NAME", help="A tenant that the app names (default: any).")]
Model = Annotated[str | None, typer.Option(metavar="NAME", help="A model (default: any).")]


@app.command()
def show(
    app_file: Annotated[
        str | None, typer.Argument(metavar="[APP]", help="App file, whose own limits are shown as well.")
    ] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Show the limits that were set, and with an app file those that hold there."""
    stored = _stored(config, overrides)
    try:
        rules = {rule.scope: (rule, "set") for rule in stored.rules()}
    finally:
        stored.close()
    for declared in _app(app_file).limits if app_file is not None else ():
        # What was set goes before what is declared for the same tenant and model.
        rules.setdefault(declared.scope, (declared, "app file"))
    if as_json:
        print_json([{**msgspec.to_builtins(rule), "from": origin} for rule, origin in rules.values()])
        return
    print_table(
        ("tenant", "model", "a second", "burst", "of", "from"),
        (
            (
                rule.tenant or "any",
                rule.model or "any",
                f"{rule.limit.per_second:g}",
                f"{rule.limit.burst:g}",
                rule.limit.unit,
                origin,
            )
            for rule, origin in rules.values()
        ),
    )
    if app_file is None:
        say("those of an app file: penstock limits show app.py")


@app.command("set")
def set_limit(  # noqa: PLR0913, PLR0917 - the options of one command
    per_second: Annotated[float, typer.Argument(metavar="RATE", help="How many a second, in the long run.")],
    burst: Annotated[
        float | None, typer.Option(help="How many at once (default: those of one second, 1 at least).")
    ] = None,
    unit: Annotated[Literal["requests", "rows"], typer.Option(help="What is counted.")] = "requests",
    tenant: Tenant = None,
    model: Model = None,
    app_file: Annotated[
        str | None,
        typer.Option("--app", metavar="APP", help="App file that has to know the tenant and the model."),
    ] = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Set the limit for a tenant and model, in the place of the app file's."""
    from penstock.serving.admission.rates.rule import RateLimit, RateRule

    if burst is None:
        limit = RateLimit(per_second=per_second, unit=unit)
    else:
        limit = RateLimit(per_second=per_second, burst=burst, unit=unit)
    rule = RateRule(limit=limit, tenant=tenant, model=model)
    if app_file is not None:
        _check_known(_app(app_file), tenant, model)
    stored = _stored(config, overrides)
    try:
        stored.set(rule)
    finally:
        stored.close()
    say(rule.describe())
    if app_file is None and (tenant or model):
        say("not held against an app: --app app.py does, so that a name that is misspelt is refused")


@app.command()
def remove(
    tenant: Tenant = None, model: Model = None, config: ConfigOption = None, overrides: SetOption = None
) -> None:
    """Remove a limit that was set: the app file's holds again, or the next one that fits."""
    stored = _stored(config, overrides)
    try:
        stored.remove(tenant=tenant, model=model)
    finally:
        stored.close()
    say("removed")


def _app(reference: str) -> "App":
    from penstock.app.loading import load_app

    return load_app(reference)[0]


def _check_known(app: "App", tenant: str | None, model: str | None) -> None:
    """Raises `NotFound` for a name that the app does not have: a limit for it would never hold."""
    models = [declared.name for declared in app.declarations]
    for kind, name, known in (("tenant", tenant, sorted(app.keys.names)), ("model", model, models)):
        if name is not None and name not in known:
            near = get_close_matches(name, known, n=1)
            raise NotFound(
                f"app {app.name!r} has no {kind} {shown(name)}",
                hint=f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known) or 'none'}",
            )


def _stored(config: Path | None, overrides: list[str] | None) -> "StoredLimits":
    from penstock.app.stored_limits import StoredLimits

    return StoredLimits.open(settings_from(config, overrides).settings.database_url)
