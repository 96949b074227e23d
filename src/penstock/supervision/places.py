"""The places of a pool's workers, and the processes that have them."""

import enum

import msgspec

from penstock.core.backoff import RestartBackoff
from penstock.supervision.actions import Role

__all__ = ["Life", "Place", "WorkerState", "WorkerView"]


class WorkerState(enum.Enum):
    """What a worker process does at the moment."""

    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"


class WorkerView(msgspec.Struct, frozen=True, kw_only=True):
    """A worker as `penstock status` shows it. `life` and `state` are None while there is no process."""

    number: int
    role: Role
    life: int | None
    state: WorkerState | None
    generation: int
    started_s: float
    restarts: int
    failures: int
    """Ends in a row, without a long life between them."""
    cause: str
    """Why it ended last; empty where it never has."""
    next_start_s: float


class Life:
    """One process, from its start to its end."""

    def __init__(self, life: int, slot: "Place", generation: int, now_s: float) -> None:
        self.life = life
        self.slot = slot
        self.generation = generation
        self.state = WorkerState.STARTING
        self.started_s = now_s
        self.heard_s = now_s
        self.drained_s = float("inf")
        self.cause = ""
        self.killed = False
        """Its end is decided; whatever it still says on the way there changes nothing."""
        self.obsolete = False
        """It was to take over, and is not wanted for that any more."""


class Place:
    """The place of one worker: who has it, and who is to take it over."""

    def __init__(self, number: int, role: Role = Role.SERVE) -> None:
        self.number = number
        self.role = role
        self.backoff = RestartBackoff()
        self.holder: Life | None = None
        self.successor: Life | None = None
        self.restarts = 0
        self.cause = ""

    @property
    def name(self) -> str:
        return f"{self.role.value} {self.number}"
