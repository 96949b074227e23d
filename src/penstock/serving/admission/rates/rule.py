"""What a rate limit is, whom it is for, and which of several holds."""

from collections.abc import Iterable
from typing import Literal, cast

import msgspec

from penstock.core.errors import InvalidInput, shown

__all__ = ["RateLimit", "RateRule", "RuleBook", "check_tenant_name"]

RATE_MAX = 1e9
FILL_S_MAX = 86_400.0
"""A bucket that takes longer than a day to fill is a budget, not a rate: it would outlive what remembers it."""
TENANT_LENGTH_MAX = 128
_FIRST = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_FURTHER = _FIRST | frozenset("._-")
UNITS = ("requests", "rows")


class RateLimit(msgspec.Struct, frozen=True, kw_only=True):
    """A token bucket: `per_second` tokens flow in, `burst` of them at most are kept, a request takes one.

    Where `unit` is "rows", it takes one for each of its rows. `burst` is as much as a second brings where it is
    not said, and 1 at least. Raises `InvalidInput` for what is no rate.
    """

    per_second: float
    # None by default, and a number once it is made: whoever reads it need not ask.
    burst: float = cast("float", None)
    unit: Literal["requests", "rows"] = "requests"

    def __post_init__(self) -> None:
        _check_number("per_second", self.per_second, least=0.0)
        if self.unit not in UNITS:
            raise InvalidInput(
                f"a rate limit's unit is {shown(self.unit)}", where="unit", hint="it is 'requests' or 'rows'"
            )
        given: object = self.burst
        burst = max(1.0, self.per_second) if given is None else self.burst
        # One that holds no token would never let anything pass.
        _check_number("burst", burst, least=1.0)
        msgspec.structs.force_setattr(self, "per_second", float(self.per_second))
        msgspec.structs.force_setattr(self, "burst", float(burst))
        if self.fill_s > FILL_S_MAX:
            raise InvalidInput(
                f"a burst of {self.burst:g} at {self.per_second:g} a second takes {self.fill_s:.3g} s to come "
                f"back; {FILL_S_MAX:g} s (a day) is the most",
                where="burst",
                hint="raise per_second, or lower burst",
            )

    @property
    def fill_s(self) -> float:
        """How long an empty bucket takes to be full."""
        return self.burst / self.per_second


class RateRule(msgspec.Struct, frozen=True, kw_only=True):
    """A limit and whom it is for: None stands for any tenant, or any model, each of which has a bucket."""

    limit: RateLimit
    model: str | None = None
    tenant: str | None = None

    @property
    def scope(self) -> tuple[str | None, str | None]:
        return self.tenant, self.model

    def describe(self) -> str:
        """In words: what passes, for whom."""
        limit = self.limit
        tenant = "any tenant" if self.tenant is None else f"tenant {self.tenant!r}"
        model = "any model" if self.model is None else f"model {self.model!r}"
        return f"{limit.per_second:g} {limit.unit} a second, burst {limit.burst:g}, for {tenant} and {model}"


class RuleBook:
    """The rules that hold. Of several for the same tenant and model, the last."""

    def __init__(self, rules: Iterable[RateRule] = ()) -> None:
        self._limits = {rule.scope: rule.limit for rule in rules}

    def __bool__(self) -> bool:
        return bool(self._limits)

    def find(self, tenant: str | None, model: str) -> RateLimit | None:
        """The one limit for a tenant's requests to a model: the most specific.

        The tenant with the model comes first, then the tenant with any model (what was agreed with somebody
        goes before what goes for all), then any tenant with the model, then the default.
        """
        limits = self._limits
        for scope in ((tenant, model), (tenant, None), (None, model), (None, None)):
            found = limits.get(scope)
            if found is not None:
                return found
        return None


def check_tenant_name(name: object) -> None:
    """Raises `InvalidInput` unless `name` can name a tenant."""
    if (
        isinstance(name, str)
        and 0 < len(name) <= TENANT_LENGTH_MAX
        and name[0] in _FIRST
        and set(name) <= _FURTHER
    ):
        return
    raise InvalidInput(
        f"{shown(name)} cannot name a tenant",
        where="tenant",
        hint=f"a tenant's name is 1 to {TENANT_LENGTH_MAX} of a-z, 0-9, '.', '_' and '-', the first a letter "
        "or a digit",
    )


def _check_number(name: str, value: object, *, least: float) -> None:
    """An app file is not type-checked before it runs."""
    if (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and least <= value <= RATE_MAX
        and value > 0
    ):
        return
    said = "above 0" if least == 0.0 else f"{least:g} or more"
    raise InvalidInput(
        f"a rate limit's {name} is {shown(value)}, not a number {said} and up to {RATE_MAX:g}", where=name
    )
