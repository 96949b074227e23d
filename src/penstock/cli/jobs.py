"""`penstock jobs`: requests that are answered later, as they are kept in the home folder."""

from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.options import ConfigOption, JsonOption, SetOption, settings_from
from penstock.cli.output import print_json, print_table, print_text, say
from penstock.core.errors import InvalidInput

if TYPE_CHECKING:
    from penstock.app.stored_jobs import StoredJob, StoredJobs
    from penstock.core.settings import Settings

__all__ = ["app", "counts_line"]

app = typer.Typer(no_args_is_help=True, help="Requests that are answered later: what became of them.")

Id = Annotated[str, typer.Argument(metavar="ID", help="The job's id, as its answer named it.")]


@app.command("list")
def list_jobs(
    state: Annotated[
        str | None, typer.Option(help="Only those: queued, running, done, failed, cancelled, expired.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many, newest first.")] = 20,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """List the newest jobs, of all apps and tenants."""
    from penstock.serving.jobs.job import JobState

    wanted = None
    if state is not None:
        try:
            wanted = JobState(state)
        except ValueError:
            raise InvalidInput(
                f"--state {state!r} is no state", where="state", hint=f"they are {', '.join(JobState)}"
            ) from None
    with _stored(settings_from(config, overrides).settings) as stored:
        found = stored.latest(state=wanted, count=count)
    if as_json:
        print_json([_plain(each) for each in found])
        return
    print_table(
        ("job", "app", "status", "model", "tenant", "attempts", "created", "error"),
        (
            (
                job.id,
                app,
                job.state.value,
                job.model,
                job.tenant,
                job.attempts,
                job.view().created_at.isoformat(timespec="seconds").replace("+00:00", "Z"),
                job.error,
            )
            for app, job in found
        ),
    )


@app.command()
def show(
    id: Id,  # noqa: A002 - what it is called
    as_json: JsonOption = False,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Show a job: its times, its attempts, why it failed, what became of its webhook."""
    with _stored(settings_from(config, overrides).settings) as stored:
        plain = _plain(stored.find(id))
    if as_json:
        print_json(plain)
        return
    webhook = plain.pop("webhook", None)
    for name, value in plain.items():
        print_text(f"{name.replace('_', ' ')}: {value}")
    if isinstance(webhook, dict):
        told = ", ".join(f"{name} {value}" for name, value in webhook.items() if name != "url")
        print_text(f"webhook: {webhook['url']}  {told}")


@app.command()
def cancel(
    id: Id,  # noqa: A002 - what it is called
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Cancel a job: at once where it waits; one that runs, when its process hears of it."""
    with _stored(settings_from(config, overrides).settings) as stored:
        job = stored.cancel(id)
    say(
        "cancelled"
        if job.state.final
        else "it runs: cancelled as soon as that is noticed, unless it ends before"
    )


def counts_line(settings: "Settings") -> str | None:
    """How many jobs there are of this home, in a line; None where there never was one."""
    from pathlib import Path

    from penstock.serving.jobs.database import apps_with_jobs

    if not apps_with_jobs(Path(settings.home)):
        return None
    with _stored(settings) as stored:
        counts = stored.counts()
    said = ", ".join(f"{counts[state]} {state}" for state in ("queued", "running", "done", "failed"))
    return f"jobs  {said}"


def _stored(settings: "Settings") -> "StoredJobs":
    from penstock.app.stored_jobs import StoredJobs
    from penstock.core.clock import SystemClock

    return StoredJobs.open(settings, SystemClock())


def _plain(stored: "StoredJob") -> dict[str, object]:
    import msgspec

    plain: dict[str, object] = msgspec.to_builtins(stored.job.view())
    return {"id": plain.pop("id"), "app": stored.app, "tenant": stored.job.tenant, **plain}
