"""What a user writes in an app file: models, and what is promised for them."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from penstock.core.errors import ConfigurationError, InvalidInput, shown
from penstock.core.rng import secret_bytes
from penstock.core.signature import Signature
from penstock.models.naming import CHAMPION, NUMBER_MAX, check_alias, check_model_name
from penstock.serving.admission.rates.rule import RateLimit, RateRule, check_tenant_name
from penstock.serving.admission.rates.tenants import ApiKeys

__all__ = ["App", "CallableDeclaration", "Declaration", "ModelDeclaration", "Objective"]

F = TypeVar("F", bound=Callable[..., object])


class Objective(msgspec.Struct, frozen=True, kw_only=True):
    """What is promised for a model: the latency of an answer, and the share of requests that keep it."""

    latency_ms: float = 100.0
    availability: float = 0.999

    def __post_init__(self) -> None:
        if not self.latency_ms > 0 or not 0 < self.availability < 1:
            raise ConfigurationError(f"objective {self!r}: latency_ms is above 0, availability between 0 and 1")


class ModelDeclaration(msgspec.Struct, frozen=True, kw_only=True):
    """A model of the registry: the version that `alias` names, or one by its number."""

    name: str
    alias: str = CHAMPION
    version: int | None = None
    beside: tuple[str | int, ...] = ()
    objective: Objective = msgspec.field(default_factory=Objective)
    batch_rows_max: int | None = None


class CallableDeclaration(msgspec.Struct, frozen=True, kw_only=True):
    """A model that is a Python callable of the app file."""

    name: str
    signature: Signature
    target: Callable[..., object]
    objective: Objective = msgspec.field(default_factory=Objective)
    batch_rows_max: int | None = None


Declaration = ModelDeclaration | CallableDeclaration


class App:
    """The declarations of one app file."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._declared: dict[str, Declaration] = {}
        self._limits: dict[tuple[str | None, str | None], RateRule] = {}
        self.keys = ApiKeys(secret_bytes())
        """The tenants' API keys, as digests."""

    @property
    def declarations(self) -> tuple[Declaration, ...]:
        return tuple(self._declared.values())

    def model(
        self,
        name: str,
        *,
        alias: str = CHAMPION,
        version: int | None = None,
        beside: Sequence[str | int] = (),
        objective: Objective | None = None,
        batch_rows_max: int | None = None,
    ) -> ModelDeclaration:
        """Serves a model of the registry: the version under `alias`, or the one with number `version`.

        A running server follows the alias when it is moved. `beside` names further versions to keep loaded, by
        alias or number: they answer where a request names them.

        `batch_rows_max` bounds the rows of one run (default: the settings' `batching.rows_max`).
        """
        declared = ModelDeclaration(
            name=name,
            alias=alias,
            version=version,
            beside=tuple(beside),
            objective=objective or Objective(),
            batch_rows_max=batch_rows_max,
        )
        self._declare(declared)
        return declared

    def callable(
        self,
        name: str,
        *,
        signature: Signature,
        objective: Objective | None = None,
        batch_rows_max: int | None = None,
    ) -> Callable[[F], F]:
        """Serves the function (or class) under it. It runs in a process of its own.

        A function takes the inputs, a dict of numpy arrays with one row for each row asked for, and
        returns the outputs likewise. A class is instantiated once, in that process, and its instances are
        called: the place to load what the model needs. Rows of several callers come together in one call.
        Raise `InvalidInput` for values that the model cannot take: the caller is told, and no one else.
        """

        def declare(target: F) -> F:
            self._declare(
                CallableDeclaration(
                    name=name,
                    signature=signature,
                    target=target,
                    objective=objective or Objective(),
                    batch_rows_max=batch_rows_max,
                )
            )
            return target

        return declare

    @property
    def limits(self) -> tuple[RateRule, ...]:
        return tuple(self._limits.values())

    def tenant(self, name: str, *, keys: Sequence[str]) -> None:
        """Names who sends one of these API keys, in `x-api-key` or as the bearer in `authorization`.

        Keep the keys out of the file: `keys=[os.environ["ACME_KEY"]]`. Of a key only a keyed digest is kept.
        Raises `InvalidInput` for keys that cannot be any, are too short, or are another tenant's.
        """
        check_tenant_name(name)
        if isinstance(keys, str) or not keys:
            raise InvalidInput(
                f"tenant {name!r}: keys is not a list of keys", where="keys", hint="write keys=[KEY]"
            )
        for key in keys:
            self.keys.add(name, key)

    def limit(self, limit: RateLimit, *, model: str | None = None, tenant: str | None = None) -> None:
        """Limits how often a tenant may ask a model; None stands for any; each has a bucket.

        The most specific limit holds: the tenant's for the model, the tenant's for any model, any tenant's for
        the model, the default. `penstock limits set` changes them while the server runs. Raises
        `ConfigurationError` for a limit that is declared twice.
        """
        if not isinstance(limit, RateLimit):
            raise ConfigurationError(
                f"app {self.name!r}: {shown(limit)} is not a RateLimit",
                hint="write app.limit(penstock.RateLimit(per_second=100), model='late')",
            )
        if model is not None:
            check_model_name(model)
        if tenant is not None:
            check_tenant_name(tenant)
        rule = RateRule(limit=limit, model=model, tenant=tenant)
        if rule.scope in self._limits:
            raise ConfigurationError(f"app {self.name!r} declares two limits: {rule.describe()}, and another")
        self._limits[rule.scope] = rule

    def _declare(self, declared: Declaration) -> None:
        check_model_name(declared.name)
        if isinstance(declared, ModelDeclaration):
            check_alias(declared.alias)
            _check_version(declared.name, declared.version)
            for other in declared.beside:
                if isinstance(other, str):
                    check_alias(other)
                else:
                    _check_version(declared.name, other)
        if declared.name in self._declared:
            raise ConfigurationError(f"app {self.name!r} declares model {declared.name!r} twice")
        if declared.batch_rows_max is not None and declared.batch_rows_max < 1:
            raise ConfigurationError(
                f"model {declared.name!r}: batch_rows_max is {declared.batch_rows_max}, not 1 or more"
            )
        self._declared[declared.name] = declared


def _check_version(model: str, version: object) -> None:
    """An app file is not type-checked before it runs."""
    if version is None:
        return
    if not isinstance(version, int) or isinstance(version, bool) or not 1 <= version <= NUMBER_MAX:
        raise ConfigurationError(
            f"model {model!r}: version is {shown(version)}, not a version's number",
            hint="write version=3, or alias='champion' for an alias",
        )
