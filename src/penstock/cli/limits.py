"""`penstock limits`: rate limits, changed while servers run."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from penstock.cli.options import ConfigOption, JsonOption, SetOption, settings_from
from penstock.cli.output import print_json, print_table, say
from penstock.core.settings import Settings

if TYPE_CHECKING:
    from penstock.app.stored_limits import StoredLimits

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="How often a tenant may ask a model; servers follow at once.")

Tenant = Annotated[str | None, typer.Option(metavar="NAME", help="A tenant that the app names (default: any).")]
Model = Annotated[str | None, typer.Option(metavar="NAME", help="A model (default: any).")]
AppFile = Annotated[
    str | None,
    typer.Option("--app", metavar="APP", help="The app file (default: what the running servers serve)."),
]


@app.command()
def show(
    app_file: AppFile = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Show the limits that were set, those of the app file, and which of them hold."""
    from penstock.app.known_limits import known_apps, shown_limits

    settings = settings_from(config, overrides).settings
    apps = known_apps(app_file, settings)
    stored = _stored(settings)
    try:
        limits = shown_limits(stored.rules(), apps)
    finally:
        stored.close()
    if not apps:
        say(f"nothing runs from {settings.home}: without --app FILE these are only the limits that were set")
    if as_json:
        print_json(limits)
        return
    print_table(
        ("tenant", "model", "a second", "burst", "of", "from", "holds"),
        (
            (
                each.tenant or "any",
                each.model or "any",
                f"{each.limit.per_second:g}",
                f"{each.limit.burst:g}",
                each.limit.unit,
                each.origin,
                "yes" if each.holds else "no: another was set",
            )
            for each in limits
        ),
    )


@app.command("set")
def set_limit(  # noqa: PLR0913, PLR0917 - the options of one command
    per_second: Annotated[float, typer.Argument(metavar="RATE", help="How many a second, in the long run.")],
    burst: Annotated[
        float | None, typer.Option(help="How many at once (default: those of one second, 1 at least).")
    ] = None,
    unit: Annotated[Literal["requests", "rows"], typer.Option(help="What is counted.")] = "requests",
    tenant: Tenant = None,
    model: Model = None,
    app_file: AppFile = None,
    force: Annotated[bool, typer.Option("--force", help="Set it for a model that nothing knows yet.")] = False,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Set the limit for a tenant and model, in the place of the app file's."""
    from penstock.app.known_limits import check_model, known_apps, tenant_doubts
    from penstock.app.stored_limits import check_names
    from penstock.serving.admission.rates.rule import RateLimit, RateRule

    if burst is None:
        limit = RateLimit(per_second=per_second, unit=unit)
    else:
        limit = RateLimit(per_second=per_second, burst=burst, unit=unit)
    rule = RateRule(limit=limit, tenant=tenant, model=model)
    check_names(rule)
    settings = settings_from(config, overrides).settings
    apps = known_apps(app_file, settings)
    if model is not None and not force:
        check_model(model, apps, settings)
    stored = _stored(settings)
    try:
        stored.set(rule)
    finally:
        stored.close()
    say(rule.describe())
    if tenant is not None:
        for line in tenant_doubts(tenant, apps):
            say(line)


@app.command()
def remove(
    tenant: Tenant = None, model: Model = None, config: ConfigOption = None, overrides: SetOption = None
) -> None:
    """Remove a limit that was set: the app file's holds again, or the next one that fits."""
    stored = _stored(settings_from(config, overrides).settings)
    try:
        stored.remove(tenant=tenant, model=model)
    finally:
        stored.close()
    say("removed")


def _stored(settings: Settings) -> "StoredLimits":
    from penstock.app.stored_limits import StoredLimits

    return StoredLimits.open(settings.database_url)
