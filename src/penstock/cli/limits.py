"""`penstock limits`: rate limits, changed while servers run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from penstock.cli.options import ConfigOption, JsonOption, SetOption, settings_from
from penstock.cli.output import print_json, print_table, say

if TYPE_CHECKING:
    from penstock.app.stored_limits import StoredLimits

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="How often a tenant may ask a model; servers follow at once.")

Tenant = Annotated[str | None, typer.Option(metavar="NAME", help="A tenant that the app names (default: any).")]
Model = Annotated[str | None, typer.Option(metavar="NAME", help="A model (default: any).")]


@app.command()
def show(as_json: JsonOption = False, config: ConfigOption = None, overrides: SetOption = None) -> None:
    """Show the limits that were set; those of an app file stand there."""
    stored = _stored(config, overrides)
    try:
        rules = stored.rules()
    finally:
        stored.close()
    if as_json:
        print_json(rules)
        return
    print_table(
        ("tenant", "model", "a second", "burst", "of"),
        (
            (
                rule.tenant or "any",
                rule.model or "any",
                f"{rule.limit.per_second:g}",
                f"{rule.limit.burst:g}",
                rule.limit.unit,
            )
            for rule in rules
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
    stored = _stored(config, overrides)
    try:
        stored.set(rule)
    finally:
        stored.close()
    say(rule.describe())


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


def _stored(config: Path | None, overrides: list[str] | None) -> "StoredLimits":
    from penstock.app.stored_limits import StoredLimits

    return StoredLimits.open(settings_from(config, overrides).settings.database_url)
