"""Who asks: classes and tenants, mixed by weights."""

import math

import msgspec

from penstock.core.calling import Criticality
from penstock.core.errors import InvalidInput, shown

__all__ = ["Kind", "make_mix"]

KINDS_MAX = 64
WEIGHT_MAX = 1e9


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """Requests of one class from one tenant. The key is what proves the tenant; it is never shown."""

    criticality: str
    tenant: str
    weight: float
    api_key: str = ""

    def __repr__(self) -> str:
        return f"Kind({self.criticality!r}, {self.tenant!r}, weight={self.weight!r})"


def make_mix(
    classes: dict[str, str] | None, tenants: dict[str, str] | None, keys: dict[str, str] | None = None
) -> tuple[Kind, ...]:
    """Each class from each tenant, by the product of their weights. Without any: `CRITICAL`, from nobody.

    Raises `InvalidInput` for an unknown class, for a weight that is none, and for a key of no tenant.
    """
    class_weights = _weights(classes or {"CRITICAL": "1"}, "--class")
    tenant_weights = _weights(tenants or {"": "1"}, "--tenant")
    for name in class_weights:
        if name not in Criticality.__members__:
            known = ", ".join(Criticality.__members__)
            raise InvalidInput(f"{shown(name)} is no class", where="--class", hint=f"classes are {known}")
    for name, key in (keys or {}).items():
        if name not in tenant_weights:
            raise InvalidInput(f"--api-key for {shown(name)}, which is none of the tenants", where="--api-key")
        if not key.isascii() or not key.isprintable() or not key:
            raise InvalidInput(f"the key of {shown(name)} cannot stand in a header", where="--api-key")
    if len(class_weights) * len(tenant_weights) > KINDS_MAX:
        raise InvalidInput(f"classes times tenants are more than {KINDS_MAX}", where="--tenant")
    return tuple(
        Kind(
            criticality=criticality,
            tenant=tenant,
            weight=weight * share,
            api_key=(keys or {}).get(tenant, tenant),
        )
        for criticality, weight in class_weights.items()
        for tenant, share in tenant_weights.items()
    )


def _weights(given: dict[str, str], option: str) -> dict[str, float]:
    weights: dict[str, float] = {}
    for name, text in given.items():
        try:
            weight = float(text)
        except ValueError:
            weight = math.nan
        if not 0 < weight <= WEIGHT_MAX:
            raise InvalidInput(
                f"{option} {name}={shown(text)}: the weight has to be a number above 0", where=option
            )
        if not name.isascii() or not name.isprintable():
            raise InvalidInput(f"{option} {shown(name)} cannot stand in a header", where=option)
        weights[name] = weight
    return weights
