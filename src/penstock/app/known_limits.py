"""What limits can be about: what app files declare, told by the servers that run or read from a file."""

import difflib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from penstock.app.declarations import App
from penstock.app.loader import open_registry
from penstock.app.loading import load_app
from penstock.core.errors import NotFound, shown
from penstock.core.settings import Settings
from penstock.models.registry.database import Database
from penstock.serving.admission.rates.rule import RateLimit, RateRule
from penstock.supervision.messages import Declared
from penstock.supervision.status import read_statuses

__all__ = [
    "KnownApp",
    "ShownLimit",
    "check_model",
    "declared_by",
    "known_apps",
    "shown_limits",
    "tenant_doubts",
]

SET = "set"
NAMES_TOLD_MAX = 10


class KnownApp(NamedTuple):
    """An app file as the user named it, and what is in it."""

    file: str
    declared: Declared


class ShownLimit(msgspec.Struct, frozen=True, kw_only=True):
    """A limit and where it comes from: `set`, or an app file. Not `holds`: what was set stands in its place."""

    tenant: str | None
    model: str | None
    limit: RateLimit
    origin: str
    holds: bool


def declared_by(app: App) -> Declared:
    return Declared(
        models=tuple(each.name for each in app.declarations), tenants=app.tenants, limits=app.limits
    )


def known_apps(file: str | None, settings: Settings) -> tuple[KnownApp, ...]:
    """The app in `file`; without one, those of the servers that run from this home folder, as they are served.

    Blocks. Raises `ConfigurationError` for a file that cannot be used.
    """
    if file is not None:
        return (KnownApp(file, declared_by(load_app(file)[0])),)
    found: dict[str, Declared] = {}
    for instance in read_statuses(settings.home):
        for worker in instance.workers:
            if worker.report is not None:
                found[instance.app] = worker.report.declared
    return tuple(KnownApp(app, declared) for app, declared in found.items())


def shown_limits(stored: Iterable[RateRule], apps: Iterable[KnownApp]) -> tuple[ShownLimit, ...]:
    """All of them by tenant and model, any first; of those for the same, what was set goes before."""
    rules = tuple(stored)
    set_scopes = {rule.scope for rule in rules}
    found = [_shown(rule, SET, holds=True) for rule in rules]
    for app in apps:
        found += [_shown(rule, app.file, holds=rule.scope not in set_scopes) for rule in app.declared.limits]
    return tuple(sorted(found, key=lambda each: (each.tenant or "", each.model or "", not each.holds)))


def check_model(model: str, apps: Sequence[KnownApp], settings: Settings) -> None:
    """Raises `NotFound` for a model that neither the registry nor an app file has. Blocks."""
    known = {name for app in apps for name in app.declared.models}
    if model not in known and Database.exists(settings.database_url):
        registry = open_registry(settings)
        try:
            known |= set(registry.models())
        finally:
            registry.close()
    if model in known:
        return
    near = _nearest(model, known)
    where = f"the registry nor {_files(apps)}" if apps else "the registry nor a running server"
    further = "" if apps else "name the app file with --app if it is one of its models; "
    raise NotFound(
        f"neither {where} has a model {shown(model)}: the limit was not set",
        hint=f"{near}{further}--force sets it all the same",
    )


def tenant_doubts(tenant: str, apps: Sequence[KnownApp]) -> Iterator[str]:
    """What to tell of a limit for a tenant that no app file is known to name."""
    if not apps:
        yield f"warning: no server runs that could say whether there is a tenant {shown(tenant)}"
        yield "hint: name the app file with --app to have it looked up"
        return
    known = {name for app in apps for name in app.declared.tenants}
    if tenant in known:
        return
    yield f"warning: {_files(apps)} has no tenant {shown(tenant)}: the limit holds for nobody until it does"
    listed = ", ".join(sorted(known)[:NAMES_TOLD_MAX]) + (", …" if len(known) > NAMES_TOLD_MAX else "")
    yield f"hint: {_nearest(tenant, known)}it has {listed or 'none: app.tenant(name, keys=[...]) makes one'}"


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}? " if near else ""


def _files(apps: Sequence[KnownApp]) -> str:
    return " and ".join(app.file for app in apps)


def _shown(rule: RateRule, origin: str, *, holds: bool) -> ShownLimit:
    return ShownLimit(tenant=rule.tenant, model=rule.model, limit=rule.limit, origin=origin, holds=holds)
