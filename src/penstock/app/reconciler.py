"""Brings what is served to what is wanted: loads beside what answers, moves routes, unloads."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from penstock.app.declarations import App
from penstock.app.loader import Loader
from penstock.app.targets import Target, Targets, look_up, look_up_version
from penstock.core.backoff import RestartBackoff
from penstock.core.clock import Clock
from penstock.core.errors import ModelFailed, PenstockError, Refused
from penstock.core.settings import Settings
from penstock.serving.deployment import Deployment, ServedModel
from penstock.serving.plane import DataPlane
from penstock.serving.residency import Resident, evictions
from penstock.supervision.messages import Pinned, Wanted

__all__ = ["Reconciler"]

log = logging.getLogger(__name__)

T = TypeVar("T")
Key = tuple[str, str]

RETRY_FIRST_S = 1.0
RETRY_LONGEST_S = 60.0


class Reconciler:
    """Keeps one process's data plane at what the app declares and clients ordered.

    A version is loaded, warmed and checked on its golden rows before any request goes to it; one that does not
    pass leaves the standing one in place, is tried again with back-off, and `problems` says why. When the
    registry cannot be read, what is served stays as it is.
    """

    def __init__(self, app: App, loader: Loader, plane: DataPlane, settings: Settings, clock: Clock) -> None:
        self._app = app
        self._loader = loader
        self._plane = plane
        self._budget_bytes = settings.runtime.memory_bytes_max
        self._clock = clock
        self._wanted = Wanted()
        self._turn = asyncio.Lock()
        self._failures: dict[Key, tuple[PenstockError, RestartBackoff]] = {}
        self._kept_s: dict[Key, float] = {}
        """Versions that answered for their models before, and when they stopped to."""
        self._left: dict[str, str] = {}
        """By model: the version that is wanted and was left for another one, as it kept failing its checks."""
        self._unknown: dict[str, PenstockError] = {}
        self._unloading: set[asyncio.Task[None]] = set()

    @property
    def problems(self) -> dict[str, str]:
        """By model: why what is wanted of it is not what is served."""
        found = {model: error.message for model, error in self._unknown.items()}
        for (model, version), (error, _) in self._failures.items():
            standing = self._plane.default(model)
            kept = f"; version {standing.version} answers" if standing is not None else ""
            found[model] = f"version {version} is not served: {error.message}{kept}"
        for model, version in self._left.items():
            sick = self._sick(model, version)
            standing = self._plane.default(model)
            if sick is not None and standing is not None:
                found[model] = f"version {version}: {sick}; version {standing.version} answers"
        return found

    def failure(self, model: str, version: str) -> str | None:
        """Why a version that is wanted is not served; None where nothing is known against it."""
        failed = self._failures.get((model, version))
        return failed[0].message if failed is not None else None

    async def start(self, wanted: Wanted, standing: Mapping[str, str]) -> None:
        """Loads everything the app declares, side by side. Raises the first error that there is of those.

        Where a version is not to be had, that which is `standing` for its model is loaded in its place: other
        processes answer with it, and this one came later.

        What clients had ordered comes as well; where it cannot, that is a problem but no reason not to start.
        """
        async with self._turn:
            self._wanted = wanted
            targets = await asyncio.to_thread(look_up, self._app, self._loader, wanted)
            declared = {each.name for each in self._app.declarations} - set(wanted.unloaded)
            for model, error in targets.unknown.items():
                if model in declared - targets.settled:
                    raise error
            self._unknown = targets.unknown
            first = [target for target in targets.wanted if target.default and target.model in declared]
            self._check_budget(first)
            await self._load_first(first, standing)
            self._plane.check_ladders()
            self._plane.want(declared)
            await self._reconcile(targets)

    async def run(self, every_s: float) -> None:
        """Follows the registry for ever."""
        while True:
            await asyncio.sleep(every_s)
            try:
                async with self._turn:
                    self._leave_sick()
                    await self._reconcile(await self._look_up())
            except PenstockError as error:
                log.warning("what is served stays as it is: %s", error)
            except Exception:
                log.exception("what is served stays as it is")

    async def order(self, wanted: Wanted) -> None:
        """Serves what clients ordered. Raises the first error that keeps it from that."""
        async with self._turn:
            if wanted.revision < self._wanted.revision:
                return
            self._wanted = wanted
            targets = await self._look_up()
            ordered = {pinned.model for pinned in wanted.loaded}
            for target in targets.wanted:
                if target.model in ordered:
                    self._failures.pop(target.key, None)  # asked for anew, it is tried anew
            await self._reconcile(targets)
            self._plane.want({each.name for each in self._app.declarations} - set(wanted.unloaded))
            for target in targets.wanted:
                if target.model in ordered and target.key in self._failures:
                    raise self._failures[target.key][0]
            for model, error in targets.unknown.items():
                if model in ordered:
                    raise error

    async def close(self) -> None:
        """Ends what is being loaded, and waits for what is being unloaded. Nothing is served any more."""
        self._loader.cancel()
        if self._unloading:
            await asyncio.wait(self._unloading)

    async def _load_first(self, targets: Sequence[Target], standing: Mapping[str, str]) -> None:
        """Side by side; all of them, or none and the first error."""
        loads = [
            asyncio.ensure_future(asyncio.to_thread(self._load_or_standing, target, standing.get(target.model)))
            for target in targets
        ]
        try:
            if loads:
                await asyncio.wait(loads, return_when=asyncio.FIRST_EXCEPTION)
            failed = [error for load in loads if load.done() and (error := load.exception()) is not None]
            if failed:
                raise failed[0]
        except BaseException:
            # Nothing is served yet, so all that the loader has is what is to be ended.
            self._loader.cancel()
            for load in loads:
                load.add_done_callback(_free)
            await asyncio.wait(loads)
            raise
        for load in loads:
            self._plane.add(load.result())

    def _load_or_standing(self, target: Target, standing: str | None) -> ServedModel:
        """Blocks. What keeps the wanted version out becomes a problem where the standing one is to be had."""
        try:
            return target.load()
        except PenstockError as error:
            if standing is None or standing == target.version:
                raise
            served = look_up_version(self._app, self._loader, target.model, standing).load()
            log.error("model %r: version %s is not served: %s", target.model, target.version, error)
            retries = _retries()
            for _ in range(2):  # the first pause is none, and it has just been tried
                retries.started(self._clock.monotonic())
                retries.failed(self._clock.monotonic())
            self._failures[target.key] = (error, retries)
            return served

    async def _look_up(self) -> Targets:
        targets = await asyncio.to_thread(look_up, self._app, self._loader, self._wanted)
        for model, error in targets.unknown.items():
            if str(self._unknown.get(model)) != str(error):
                log.error("%s; what is served of it stays", error)
        self._unknown = targets.unknown
        return targets

    async def _reconcile(self, targets: Targets) -> None:
        wanted = {target.key for target in targets.wanted}
        for key in [key for key in self._failures if key not in wanted and key[0] not in targets.unknown]:
            del self._failures[key]
        for target in targets.wanted:
            if target.key not in self._loaded():
                await self._load(target, targets)
            if target.default and target.key in self._loaded():
                self._route(target)
        self._route_pinned(targets)
        self._leave_sick()
        self._unload_unwanted(targets)

    def _route_pinned(self, targets: Targets) -> None:
        """Where clients asked for versions by number alone, one of those answers for the model."""
        wanted = {target.key for target in targets.wanted}
        for target in targets.wanted:
            standing = self._plane.default(target.model)
            lacking = standing is None or (standing.model, standing.version) not in wanted
            unsettled = target.model in targets.defaults() or target.model in targets.unknown
            if lacking and target.key in self._loaded() and (standing is None or not unsettled):
                self._plane.route(*target.key)

    def _loaded(self) -> set[Key]:
        return {(each.model, each.version) for each in self._plane.deployments()}

    async def _load(self, target: Target, targets: Targets) -> None:
        failed = self._failures.get(target.key)
        now_s = self._clock.monotonic()
        if failed is not None and failed[1].wait_s(now_s) > 0:
            return
        try:
            self._make_room(target, targets)
            served = await self._beside(target.load)
        except Exception as failure:
            error = failure
            if not isinstance(error, PenstockError):
                log.exception("model %r version %s does not load", target.model, target.version)
                error = ModelFailed(f"loading it raised {type(failure).__name__}: {failure}")
            backoff = failed[1] if failed is not None else _retries()
            backoff.started(now_s)
            backoff.failed(self._clock.monotonic())
            self._failures[target.key] = (error, backoff)
            log.error("%s", self.problems[target.model])
            return
        self._failures.pop(target.key, None)
        self._plane.add(served)

    async def _beside(self, load: Callable[[], ServedModel]) -> ServedModel:
        """Loads in a thread, while requests are answered. A model that comes too late is freed."""
        loading = asyncio.ensure_future(asyncio.to_thread(load))
        try:
            return await asyncio.shield(loading)
        except asyncio.CancelledError:
            # Not by ending the loader's processes: those of what is being served are among them.
            loading.add_done_callback(_free)
            raise

    def _route(self, target: Target) -> None:
        standing = self._plane.default(target.model)
        if standing is not None and standing.version == target.version:
            return
        if standing is not None and self._sick(*target.key) is not None:
            self._left[target.model] = target.version
            return
        self._left.pop(target.model, None)
        self._switch(standing, *target.key)

    def _switch(self, standing: Deployment | None, model: str, version: str) -> None:
        self._plane.route(model, version)
        self._kept_s.pop((model, version), None)
        if standing is not None:
            self._kept_s[standing.model, standing.version] = self._clock.monotonic()
        before = f", before it {standing.version}" if standing is not None else ""
        log.info("model %r: version %s answers now%s", model, version, before)

    def _sick(self, model: str, version: str) -> str | None:
        """Why a version is taken out; None where it is not, or is not loaded."""
        sick = [
            each.sick for each in self._plane.deployments() if (each.model, each.version) == (model, version)
        ]
        return sick[0] if sick else None

    def _leave_sick(self) -> None:
        """Where what answers for a model keeps failing its checks, the last one that answered before takes its
        place, if it is well. Where there is none it stays, and the plane is not ready.
        """
        for model in self._plane.models():
            standing = self._plane.default(model)
            if standing is None or standing.sick is None:
                continue
            good = [
                (self._kept_s[model, each.version], each.version)
                for each in self._plane.deployments()
                if each.model == model and each.fault is None and (model, each.version) in self._kept_s
            ]
            if good:
                self._left[model] = standing.version
                self._switch(standing, model, max(good)[1])

    def _unload_unwanted(self, targets: Targets) -> None:
        """What answered for a model that is wanted may stay, within the budget, to be switched back to."""
        wanted = {target.key for target in targets.wanted}
        models = targets.models()
        for model, version in self._loaded() - wanted:
            standing = self._plane.default(model)
            answers = standing is not None and standing.version == version
            # What answers for a model whose wanted version is not to be had goes on.
            kept = (model, version) in self._kept_s and Pinned(model, version) not in self._wanted.dropped
            if model in models and (answers or kept):
                continue
            if model in targets.unknown:
                continue
            self._unload(model, version)
        leaving, _ = evictions(self._residents(targets), self._budget_bytes)
        for resident in leaving:
            self._unload(resident.model, resident.version)

    def _make_room(self, target: Target, targets: Targets) -> None:
        residents = self._residents(targets)
        leaving, fits = evictions(residents, self._budget_bytes, target.size_bytes)
        if not fits:
            raise self._over_budget(target.model, target.version, target.size_bytes, _held_bytes(residents))
        for resident in leaving:
            self._unload(resident.model, resident.version)

    def _check_budget(self, targets: Sequence[Target]) -> None:
        held_bytes = 0
        for target in targets:
            if held_bytes + target.size_bytes > self._budget_bytes:
                raise self._over_budget(target.model, target.version, target.size_bytes, held_bytes)
            held_bytes += target.size_bytes

    def _over_budget(self, model: str, version: str, needed_bytes: int, held_bytes: int) -> Refused:
        return Refused(
            f"model {model!r} version {version} needs about {needed_bytes:,} bytes; the models loaded beside "
            f"it hold {held_bytes:,} of the {self._budget_bytes:,} that there are",
            reason="memory",
            hint="raise runtime.memory_bytes_max, or serve fewer models in one process",
        )

    def _residents(self, targets: Targets) -> list[Resident]:
        wanted = {target.key for target in targets.wanted}
        residents = []
        for each in self._plane.deployments():
            key = (each.model, each.version)
            standing = self._plane.default(each.model)
            residents.append(
                Resident(
                    model=each.model,
                    version=each.version,
                    memory_bytes=each.memory_bytes,
                    wanted=key in wanted or standing is each or self._may_be_wanted(key, targets),
                    used_s=max(each.used_s, self._kept_s.get(key, float("-inf"))),
                )
            )
        return residents

    def _may_be_wanted(self, key: Key, targets: Targets) -> bool:
        """A version that clients ordered, of a model of which cannot be found out what is wanted."""
        return key[0] in targets.unknown and key not in self._kept_s

    def _unload(self, model: str, version: str) -> None:
        """Takes it off at once; it ends in its own time, once what it took on is answered."""
        log.info("model %r: version %s is unloaded", model, version)
        self._kept_s.pop((model, version), None)
        task = asyncio.ensure_future(self._plane.remove(model, version))
        self._unloading.add(task)
        task.add_done_callback(self._unloading.discard)


def _free(loading: "asyncio.Future[ServedModel]") -> None:
    """Closes what was loaded for nobody."""
    if not loading.cancelled() and loading.exception() is None:
        loading.result().runtime.close()


def _held_bytes(residents: Sequence[Resident]) -> int:
    return sum(resident.memory_bytes for resident in residents)


def _retries() -> RestartBackoff:
    return RestartBackoff(first_s=RETRY_FIRST_S, longest_s=RETRY_LONGEST_S, stable_s=float("inf"))
