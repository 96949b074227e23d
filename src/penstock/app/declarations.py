"""What a user writes in an app file: models, and what is promised for them."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from penstock.app.caching import Cache
from penstock.app.fallbacks import check_backups, rungs
from penstock.app.model_declarations import (
    CallableDeclaration,
    Declaration,
    Health,
    ModelDeclaration,
    check_declaration,
)
from penstock.app.model_features import DeclaredView, model_features
from penstock.app.objectives import Objective, chosen_objective
from penstock.app.streams_of_app import StreamsOfApp
from penstock.core.errors import ConfigurationError, InvalidInput, shown
from penstock.core.rng import secret_bytes
from penstock.core.signature import Signature
from penstock.models.naming import CHAMPION, check_model_name
from penstock.serving.admission.rates.rule import RateLimit, RateRule, check_tenant_name
from penstock.serving.admission.rates.tenants import ApiKeys
from penstock.serving.fallback.breaker import BreakerConfig
from penstock.serving.fallback.rungs import Rung

__all__ = ["App"]

F = TypeVar("F", bound=Callable[..., object])


class App(StreamsOfApp):
    """The declarations of one app file. `objective` is for the models that are declared without one."""

    def __init__(self, name: str, *, objective: Objective | None = None) -> None:
        super().__init__(name)
        self.objective = chosen_objective(f"app {name!r}", objective, Objective())
        self._declared: dict[str, Declaration] = {}
        self._limits: dict[tuple[str | None, str | None], RateRule] = {}
        self.keys = ApiKeys(secret_bytes())
        """The tenants' API keys, as digests."""
        self._tenants: set[str] = set()

    @property
    def declarations(self) -> tuple[Declaration, ...]:
        return tuple(self._declared.values())

    def only(self, declarations: Sequence[Declaration]) -> "App":
        """An app of this name that declares these models and nothing else."""
        other = App(self.name, objective=self.objective)
        for declared in declarations:
            other._declare(declared)
        return other

    def check(self) -> None:
        """Raises `ConfigurationError` for what only shows when all is declared: backups that are not, models
        that streams are scored by and nobody declares.
        """
        check_backups(self.name, {each.name: each.fallback for each in self.declarations})
        if self.has_streams:
            self.streams.check(self._declared)

    def model(  # noqa: PLR0913 - what a user writes, each by its name
        self,
        name: str,
        *,
        alias: str = CHAMPION,
        version: int | None = None,
        beside: Sequence[str | int] = (),
        features: Sequence[DeclaredView] = (),
        feature_keys: Mapping[str, str] | None = None,
        feature_time: str | None = None,
        objective: Objective | None = None,
        batch_rows_max: int | None = None,
        fallback: Sequence[Rung | str] = (),
        breaker: BreakerConfig | None = None,
        health: Health | None = None,
        cache: Cache | None = None,
    ) -> ModelDeclaration:
        """Serves a model of the registry: the version under `alias`, or the one with number `version`.

        A running server follows the alias when it is moved. `beside` names further versions to keep loaded:
        they answer where a request names them. `features` fill the inputs of their names, and callers send
        their keys instead (`feature_keys`: from the inputs of these names; `feature_time`: an input that says
        as of when, in ms since 1970). `batch_rows_max` bounds the rows of one run (default: the settings'
        `batching.rows_max`). `cache` says for how long answers are given again (default: not at all).

        `fallback` is what answers where the model does not, in order: `cached(...)`, another model's name,
        `heuristic(...)`, `constant(...)`. `breaker` says when a version that keeps failing is left alone
        (default: as `Breaker()` says where there is a fallback, else never), `health` how it is checked.
        """
        declared = ModelDeclaration(
            name=name,
            alias=alias,
            version=version,
            beside=tuple(beside),
            features=model_features(name, features, feature_keys, feature_time),
            objective=chosen_objective(f"model {name!r}", objective, self.objective),
            batch_rows_max=batch_rows_max,
            fallback=rungs(name, fallback),
            breaker=breaker,
            health=health or Health(),
            cache=cache,
        )
        self._declare(declared)
        return declared

    def callable(  # noqa: PLR0913 - likewise
        self,
        name: str,
        *,
        signature: Signature,
        features: Sequence[DeclaredView] = (),
        feature_keys: Mapping[str, str] | None = None,
        feature_time: str | None = None,
        objective: Objective | None = None,
        batch_rows_max: int | None = None,
        fallback: Sequence[Rung | str] = (),
        breaker: BreakerConfig | None = None,
        health: Health | None = None,
        cache: Cache | None = None,
    ) -> Callable[[F], F]:
        """Serves the function (or class) under it. It runs in a process of its own.

        A function takes the inputs, a dict of numpy arrays with one row for each row asked for, and
        returns the outputs likewise. A class is instantiated once, in that process, and its instances are
        called: the place to load what the model needs. Rows of several callers come together in one call.
        Raise `InvalidInput` for values that the model cannot take: the caller is told, and no one else.

        `features`, `fallback`, `breaker` and `health` are as in `model`; the function takes all inputs of
        `signature`, those that features fill among them. Without inputs and outputs of its own, a function
        has no rows to be checked on.
        """
        taken = model_features(name, features, feature_keys, feature_time)
        ladder = rungs(name, fallback)
        promised = chosen_objective(f"model {name!r}", objective, self.objective)

        def declare(target: F) -> F:
            self._declare(
                CallableDeclaration(
                    name=name,
                    signature=signature,
                    target=target,
                    features=taken,
                    objective=promised,
                    batch_rows_max=batch_rows_max,
                    fallback=ladder,
                    breaker=breaker,
                    health=health or Health(),
                    cache=cache,
                )
            )
            return target

        return declare

    @property
    def limits(self) -> tuple[RateRule, ...]:
        return tuple(self._limits.values())

    @property
    def tenants(self) -> tuple[str, ...]:
        """Their names, sorted."""
        return tuple(sorted(self._tenants))

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
            if key is None:
                raise InvalidInput(
                    f"tenant {name!r}: a key is None",
                    where="keys",
                    hint="os.getenv gives None for a variable that is not set; os.environ[...] names it",
                )
            self.keys.add(name, key)
        self._tenants.add(name)

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
        check_declaration(declared)
        if declared.name in self._declared:
            raise ConfigurationError(f"app {self.name!r} declares model {declared.name!r} twice")
        self._declared[declared.name] = declared
