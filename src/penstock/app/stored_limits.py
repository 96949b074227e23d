"""Rate limits in the control database: what `penstock limits` writes, and running workers follow."""

import contextlib

from sqlalchemy import ColumnElement, RowMapping, delete, func, insert, select

from penstock.core.errors import InvalidInput, NotFound, PenstockError
from penstock.models.naming import check_model_name
from penstock.models.registry.database import Database
from penstock.models.registry.schema import bring_to_head
from penstock.models.registry.tables import RATE_LIMITS
from penstock.serving.admission.rates.rule import RateLimit, RateRule, check_tenant_name

__all__ = ["StoredLimits", "check_names"]

RULES_MAX = 10_000
ANY = ""


class StoredLimits:
    """The limits that were set. Its methods block; threads may share it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    def open(cls, url: str) -> "StoredLimits":
        """Those in the control database at `url`, made or migrated where that is needed.

        Raises `ConfigurationError` and `StorageFailed`.
        """
        database = Database.open(url)
        try:
            bring_to_head(database)
        except BaseException:
            database.close()
            raise
        return cls(database)

    def close(self) -> None:
        self._database.close()

    def rules(self) -> tuple[RateRule, ...]:
        """All of them, by tenant and model, any first. What is none is left out."""
        query = select(RATE_LIMITS).order_by(RATE_LIMITS.c.tenant, RATE_LIMITS.c.model).limit(RULES_MAX)
        with self._database.reading() as connection:
            rows = connection.execute(query).mappings().all()
        found = []
        for row in rows:
            with contextlib.suppress(PenstockError):
                found.append(_rule(row))
        return tuple(found)

    def set(self, rule: RateRule) -> None:
        """Sets a limit, in the place of the one for the same tenant and model.

        Raises `InvalidInput` for names that cannot be any, and where there are too many limits.
        """
        check_names(rule)
        with self._database.writing("the limit was not set") as connection:
            connection.execute(delete(RATE_LIMITS).where(*_is(rule.tenant, rule.model)))
            count = connection.scalar(select(func.count()).select_from(RATE_LIMITS)) or 0
            if count >= RULES_MAX:
                raise InvalidInput(f"there are {RULES_MAX} limits already", hint="remove some")
            connection.execute(
                insert(RATE_LIMITS).values(
                    tenant=rule.tenant or ANY,
                    model=rule.model or ANY,
                    per_second=rule.limit.per_second,
                    burst=rule.limit.burst,
                    unit=rule.limit.unit,
                )
            )

    def remove(self, *, tenant: str | None, model: str | None) -> None:
        """Removes the limit for a tenant and model. Raises `NotFound` where none was set."""
        with self._database.writing("the limit was not removed") as connection:
            removed = connection.execute(delete(RATE_LIMITS).where(*_is(tenant, model))).rowcount
        if not removed:
            whom = "any tenant" if tenant is None else f"tenant {tenant!r}"
            what = "any model" if model is None else f"model {model!r}"
            raise NotFound(
                f"no limit was set for {whom} and {what}",
                hint="`penstock limits show` lists those that were; an app file's are changed there",
            )


def _is(tenant: str | None, model: str | None) -> tuple[ColumnElement[bool], ...]:
    return RATE_LIMITS.c.tenant == (tenant or ANY), RATE_LIMITS.c.model == (model or ANY)


def check_names(rule: RateRule) -> None:
    """Raises `InvalidInput` for names that cannot be any."""
    if rule.tenant is not None:
        check_tenant_name(rule.tenant)
    if rule.model is not None:
        check_model_name(rule.model)


def _rule(row: RowMapping) -> RateRule:
    limit = RateLimit(per_second=row["per_second"], burst=row["burst"], unit=row["unit"])
    return RateRule(limit=limit, model=row["model"] or None, tenant=row["tenant"] or None)
