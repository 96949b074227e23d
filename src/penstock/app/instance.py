"""The serve instance as one of its workers sees it: what it does not know itself, it asks its supervisor."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from penstock.app.declarations import App
from penstock.app.loader import Loader
from penstock.app.model_declarations import CallableDeclaration
from penstock.core import errors
from penstock.core.errors import Conflict, Forbidden, NotFound, PenstockError, Refused
from penstock.serving.instance import ModelState, RepositoryEntry
from penstock.serving.plane import DataPlane
from penstock.serving.statistics import DeploymentStatistics
from penstock.supervision.messages import Answer, Ask

__all__ = ["SupervisedInstance"]

ANSWER_TIMEOUT_S = 5.0
CONTROL_TIMEOUT_S = 150.0


class SupervisedInstance:
    """An `Instance` of several processes.

    `send` takes a message to the supervisor, `failure` says why a version could not be loaded.
    """

    def __init__(
        self,
        app: App,
        loader: Loader,
        plane: DataPlane,
        send: Callable[[Ask], None],
        *,
        failure: Callable[[str, str], str | None],
        model_control: bool,
    ) -> None:
        self._app = app
        self._loader = loader
        self._plane = plane
        self._send = send
        self._failure = failure
        self._model_control = model_control
        self._requests = 0
        self._asked: dict[int, asyncio.Future[Answer]] = {}
        self.others_ready = False
        """What the supervisor has said of all workers together."""

    @property
    def ready(self) -> bool:
        return self.others_ready and self._plane.ready

    def answered(self, answer: Answer) -> None:
        """The supervisor has answered."""
        waiting = self._asked.get(answer.request)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    async def metrics(self) -> str:
        text: str = await self._ask("metrics")
        return text

    async def statistics(self) -> tuple[DeploymentStatistics, ...]:
        return msgspec.convert(await self._ask("statistics"), tuple[DeploymentStatistics, ...])

    async def index(self) -> tuple[RepositoryEntry, ...]:
        """What the registry has, and what else is served."""
        served = {(each.model, each.version): each.fault for each in self._plane.deployments()}
        known = await asyncio.to_thread(self._known)
        entries = []
        for model, version in sorted(known | set(served), key=_by_number):
            if (model, version) not in served:
                state, reason = ModelState.UNAVAILABLE, self._failure(model, version) or "not loaded"
            elif (fault := served[model, version]) is not None:
                state, reason = ModelState.UNAVAILABLE, fault
            else:
                state, reason = ModelState.READY, ""
            entries.append(RepositoryEntry(name=model, version=version, state=state, reason=reason))
        return tuple(entries)

    async def load(self, model: str, version: str | None) -> None:
        self._check_control()
        await self._ask("load", model, version, CONTROL_TIMEOUT_S)

    async def unload(self, model: str, version: str | None) -> None:
        self._check_control()
        if version is not None and self._plane.find(model, version) is self._plane.default(model):
            raise Conflict(
                f"version {version} answers for model {model!r}",
                hint="move its alias to another version, or unload the model",
            )
        self._plane.find(model, version)
        await self._ask("unload", model, version, CONTROL_TIMEOUT_S)

    def _known(self) -> set[tuple[str, str]]:
        declared = {
            (each.name, self._loader.callable_version())
            for each in self._app.declarations
            if isinstance(each, CallableDeclaration)
        }
        if not self._loader.has_registry:
            return declared
        registry = self._loader.registry
        found = set(declared)
        for model in registry.models():
            try:
                found |= {(model, str(version.number)) for version in registry.versions(model)}
            except NotFound:
                continue  # its last version was deleted a moment ago
        return found

    def _check_control(self) -> None:
        if not self._model_control:
            raise Forbidden(
                "clients may not load and unload models here",
                hint="move an alias instead (penstock model alias), or set server.model_control=true",
            )

    async def _ask(
        self, verb: str, model: str = "", version: str | None = None, timeout_s: float = ANSWER_TIMEOUT_S
    ) -> Any:
        self._requests += 1
        request = self._requests
        waiting: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._asked[request] = waiting
        try:
            self._send(Ask(request=request, verb=verb, model=model, version=version))
            async with asyncio.timeout(timeout_s):
                answer = await waiting
        except TimeoutError:
            raise Refused("the supervisor did not answer in time", reason="supervisor") from None
        finally:
            del self._asked[request]
        if answer.error is not None:
            raise _error(answer)
        return answer.result


def _error(answer: Answer) -> PenstockError:
    kind = getattr(errors, answer.error or "", PenstockError)
    if kind is Refused:
        return Refused(answer.message, reason="workers", hint=answer.hint)
    error: PenstockError = kind(answer.message, hint=answer.hint)
    return error


def _by_number(entry: tuple[str, str]) -> tuple[str, int, str]:
    model, version = entry
    return model, int(version) if version.isdigit() else 0, version
