"""The port between a protocol and the serve instance that it speaks for, which may be several processes."""

import enum
from typing import Protocol

import msgspec

from penstock.serving.statistics import DeploymentStatistics

__all__ = ["Instance", "ModelState", "RepositoryEntry"]


class ModelState(enum.Enum):
    """By the names that V2's repository extension has for them."""

    READY = "READY"
    LOADING = "LOADING"
    UNAVAILABLE = "UNAVAILABLE"


class RepositoryEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A version that could be served, and whether it is. `reason` says why it is not."""

    name: str
    version: str
    state: ModelState
    reason: str = ""


class Instance(Protocol):
    """All the processes that share the port, seen from one of them."""

    @property
    def ready(self) -> bool:
        """Whether every model that is wanted can answer, in whichever process a request ends up."""
        ...

    async def metrics(self) -> str:
        """All measures, added up, as Prometheus reads them."""
        ...

    async def statistics(self) -> tuple[DeploymentStatistics, ...]:
        """What each version has done, added up."""
        ...

    async def index(self) -> tuple[RepositoryEntry, ...]:
        """Every version of every model that is served or could be, by name and number."""
        ...

    async def load(self, model: str, version: str | None) -> None:
        """Serves a version beside what is served; None: what the model's route says now, as its default.

        Returns when every process serves it. Raises `NotFound`, `ModelFailed` and what else loading raises,
        `Forbidden` where clients may not decide this.
        """
        ...

    async def unload(self, model: str, version: str | None) -> None:
        """Stops serving a version; None: the model. Requests that were taken on are answered first.

        Raises `NotFound` for what is not served, `Forbidden` where clients may not decide this.
        """
        ...
