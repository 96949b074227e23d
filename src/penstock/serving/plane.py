"""The data plane: what stands behind every protocol. It knows tensors, not HTTP or gRPC."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from penstock.core.clock import Clock
from penstock.core.errors import NotFound, shown
from penstock.observe.metrics import MetricSet
from penstock.serving.admission.lag import LoopLag
from penstock.serving.admission.rate_limits import RateLimits
from penstock.serving.admission.rights import Rights
from penstock.serving.batching.outputs import BatchRows
from penstock.serving.cache.prediction_cache import PredictionCache
from penstock.serving.cached_answers import KeptAnswers
from penstock.serving.deployment import Deployment, ServedModel
from penstock.serving.fallback.stale import StaleAnswers
from penstock.serving.laddered import Ladder, LadderPorts
from penstock.serving.statistics import DeploymentStatistics, merge_statistics

__all__ = ["DataPlane"]

REST_S_MAX = 1.0
"""A runtime that is in the midst of a long run is not waited for."""


class DataPlane:
    """The versions that are served, and which of them answers for its model. In the event loop alone.

    `sheds`: whether requests that cannot be answered in time are refused at once. `limits`: who may ask how
    often; `rights`: whose word counts for what (None: all are equal). `cache` keeps the answers of versions
    that want that.
    """

    def __init__(
        self,
        metrics: MetricSet,
        clock: Clock,
        *,
        sheds: bool = True,
        limits: RateLimits | None = None,
        rights: Rights | None = None,
        cache: PredictionCache[BatchRows] | None = None,
    ) -> None:
        self._metrics = metrics
        self._clock = clock
        self._sheds = sheds
        self.limits = limits
        self.rights = rights
        self.cache = cache
        self.lag = LoopLag()
        """How far the event loop is behind."""
        self._deployments: dict[str, dict[str, Deployment]] = {}
        self._defaults: dict[str, Deployment] = {}
        self.stale: StaleAnswers | None = KeptAnswers(cache, clock) if cache is not None else None
        """Where ladders find answers that were given before."""
        self._wanted: frozenset[str] = frozenset()
        self._accepting = False
        self._on_changed: list[Callable[[], object]] = []
        self._retired: tuple[DeploymentStatistics, ...] = ()
        self._closing: list[Deployment] = []
        """Removed, and not yet through with what they took on."""

    @property
    def clock(self) -> Clock:
        """What deadlines are told by."""
        return self._clock

    @property
    def accepting(self) -> bool:
        """Whether requests are wanted at all: not before the first models stand, nor once it drains."""
        return self._accepting

    @property
    def ready(self) -> bool:
        """Whether everything that is wanted can answer."""
        return self._accepting and not self.faults()

    def faults(self) -> dict[str, str]:
        """Models that are wanted and cannot answer now, with the reason."""
        found = {}
        for model in sorted(self._wanted):
            deployment = self._defaults.get(model)
            fault = "no version of it is loaded" if deployment is None else deployment.fault
            if fault is not None:
                found[model] = fault
        return found

    def on_changed(self, tell: Callable[[], object]) -> None:
        """`tell` is called whenever what is served, or what answers for a model, has changed."""
        self._on_changed.append(tell)

    def want(self, models: Iterable[str]) -> None:
        """The models without which it is not ready."""
        self._wanted = frozenset(models)

    def accept(self) -> None:
        """From now on ready, as far as all that is wanted can answer."""
        self._accepting = True

    def refuse(self) -> None:
        """Not ready any more."""
        self._accepting = False

    def add(self, served: ServedModel) -> Deployment:
        """Serves a version: under its number, and as its model's default where the model has none."""
        versions = self._deployments.setdefault(served.model, {})
        assert served.version not in versions, f"{served.model} version {served.version} is served already"
        cache = None
        if self.cache is not None and served.cache is not None:
            cache = self.cache.open(served.model, served.version, served.cache)
        deployment = versions[served.version] = Deployment(
            served, self._metrics, self._clock, self.lag, sheds=self._sheds, cache=cache
        )
        if served.fallback:
            deployment.ladder = Ladder(
                deployment,
                served.fallback,
                LadderPorts(find=self.default, stale=self.stale, told=deployment.told),
                self._metrics,
                self._clock,
                served.batching.objective_s,
            )
        self._defaults.setdefault(served.model, deployment)
        self._changed()
        return deployment

    def check_ladders(self) -> None:
        """Raises `ConfigurationError` where a rung of a ladder cannot stand in for its model."""
        for deployment in self.deployments():
            if deployment.ladder is not None:
                deployment.ladder.check()

    def route(self, model: str, version: str) -> None:
        """Requests that name no version go to this one from now on. It is served already."""
        self._defaults[model] = self._deployments[model][version]
        self._changed()

    def remove(self, model: str, version: str) -> Coroutine[Any, Any, None]:
        """Not found any more, from the call on; what it returns ends when what was taken on is finished and the
        version is unloaded.

        A model whose default is removed has none until one is routed.
        """
        versions = self._deployments[model]
        deployment = versions.pop(version)
        if not versions:
            del self._deployments[model]
        if self._defaults.get(model) is deployment:
            del self._defaults[model]
        self._closing.append(deployment)
        self._changed()
        return self._close(deployment)

    def deployments(self) -> Iterable[Deployment]:
        for versions in self._deployments.values():
            yield from versions.values()

    def models(self) -> list[str]:
        """The models that have a default, by name."""
        return sorted(self._defaults)

    def default(self, model: str) -> Deployment | None:
        """What answers for a model where no version is named."""
        return self._defaults.get(model)

    def find(self, model: str, version: str | None) -> Deployment:
        """The deployment of a version, or (None) of the model's default version.

        Raises `NotFound`, saying what is served.
        """
        deployment = (
            self._defaults.get(model) if version is None else self._deployments.get(model, {}).get(version)
        )
        if deployment is not None:
            return deployment
        if model not in self._deployments:
            served = ", ".join(sorted(self._deployments)) or "nothing"
            raise NotFound(f"no model {shown(model)} is served here", hint=f"served are: {served}")
        asked = "no version" if version is None else f"no version {shown(version)}"
        raise NotFound(
            f"{asked} of model {shown(model)} is served here",
            hint=f"served are: {', '.join(self._deployments[model])}",
        )

    def versions(self, model: str) -> list[str]:
        """The versions of a model that are served, its default first."""
        default = self._defaults.get(model)
        versions = list(self._deployments.get(model, {}))
        return sorted(versions, key=lambda version: default is None or version != default.version)

    def check(self) -> None:
        """Sees to what broke while nobody asked for it. Called about once a second."""
        for deployment in self.deployments():
            deployment.check()

    async def rest(self) -> None:
        """Has every runtime free what it keeps for runs to come; a busy one in its time."""
        resting = [asyncio.wrap_future(each) for each in map(Deployment.rest, self.deployments()) if each]
        if resting:
            await asyncio.wait(resting, timeout=REST_S_MAX)

    def tick(self, now_s: float) -> None:
        """Adjusts what is shed. Called every `TICK_S`."""
        for deployment in self.deployments():
            deployment.tick(now_s)

    async def close(self) -> None:
        """Not ready any more; every deployment finishes what it took on."""
        self.refuse()
        for deployment in list(self.deployments()):
            await deployment.close()

    def statistics(self) -> tuple[DeploymentStatistics, ...]:
        """What each version has done, those included that are not served any more."""
        counting = (*self.deployments(), *self._closing)
        return merge_statistics((*(each.statistics() for each in counting), *self._retired))

    async def _close(self, deployment: Deployment) -> None:
        try:
            await deployment.close()
        finally:
            self._closing.remove(deployment)
            self._retired = merge_statistics((*self._retired, deployment.statistics().ended()))

    def _changed(self) -> None:
        for tell in self._on_changed:
            tell()
