"""How changes of jobs are written, within a transaction that holds the database's one write lock.

What is read under it stands until it commits (`with_for_update`, for another database than SQLite).
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, bindparam, func, insert, select, update

from penstock.serving.jobs.job import DeliveryState, JobState
from penstock.serving.jobs.life import Change, Held, JobPolicy, Told
from penstock.serving.jobs.statements import Statement, among, listed
from penstock.serving.jobs.tables import EVENTS, JOBS, WEBHOOKS

__all__ = ["ACCEPTED", "SECOND_US", "QueueRoom", "Session", "read_held", "write_changes"]

ACCEPTED = "accepted"
"""The event of a job that was taken on; that of its end is called like its state."""
SECOND_US = 1_000_000


class QueueRoom:
    """How many more jobs may wait, in all and of one tenant. Counting them each time would cost more than
    taking one on, so that for `counted_us` the last count holds, with what was taken on here since; not where
    it leaves no room.
    """

    def __init__(self, queued_max: int, counted_us: int = 0, tenant_max: int | None = None) -> None:
        self.queued_max = queued_max
        self.tenant_max = queued_max if tenant_max is None else min(queued_max, tenant_max)
        self._counted_us = counted_us
        self._until_us = 0
        self._waiting = 0
        self._of_tenants: dict[str, int] = {}

    def look(self, connection: Connection, now_us: int) -> None:
        """Before anything of a transaction is taken on."""
        if self._is_stale(now_us) or self.left <= 0:
            ((self._waiting,),) = _WAITING.run(connection, {"most": self.queued_max})
            self._of_tenants = {}
            self._until_us = now_us + self._counted_us
        self._of_tenants = {each: count for each, count in self._of_tenants.items() if count < self.tenant_max}

    @property
    def left(self) -> int:
        return self.queued_max - self._waiting

    def left_to(self, connection: Connection, tenant: str) -> int:
        """Where there is room at all."""
        if tenant not in self._of_tenants:
            named = {"whose": tenant, "most": self.tenant_max}
            ((self._of_tenants[tenant],),) = _WAITING_OF_ONE.run(connection, named)
        return self.tenant_max - self._of_tenants[tenant]

    def take(self, tenant: str) -> None:
        """One more of this tenant waits."""
        self._waiting += 1
        self._of_tenants[tenant] += 1

    def _is_stale(self, now_us: int) -> bool:
        return now_us >= self._until_us or now_us < self._until_us - self._counted_us


@dataclass(slots=True)
class Session:
    """What a piece of work has within a transaction. `counted`: how many jobs came into which state;
    `clock_us`: the time that people are told, where that is another.
    """

    connection: Connection
    now_us: int
    policy: JobPolicy
    draw: Callable[[], float]
    room: QueueRoom
    counted: Counter[str] = field(default_factory=Counter)
    clock_us: int = 0

    def __post_init__(self) -> None:
        self.clock_us = self.clock_us or self.now_us


def read_held(session: Session, numbers: Sequence[int]) -> dict[int, Held]:
    """Those of these numbers that there are, as they are now."""
    if not numbers:
        return {}
    rows = _HELD.run(session.connection, {"numbers": listed(numbers)})
    return {
        number: Held(
            JobState(state),
            epoch,
            due_us,
            attempts,
            refusals,
            bool(asked),
            expires_us,
            error,
            Told(*told),
            losses,
        )
        for number, state, epoch, due_us, attempts, refusals, asked, expires_us, error, losses, *told in rows
    }


def write_changes(session: Session, changes: Mapping[int, tuple[Held, Change]]) -> None:
    """From what to what, by number."""
    if not changes:
        return
    rows = []
    final = []
    for number, (held, change) in changes.items():
        rows.append(
            {
                "changed": number,
                "state": change.state.value,
                "due_us": change.due_us,
                "attempts": change.attempts,
                "refusals": change.refusals,
                "losses": change.losses,
                "cancel_asked": change.cancel_asked,
                "error": change.error,
                "finished_us": session.clock_us if change.state.final else None,
            }
        )
        if change.state.final:
            final.append(number)
        if change.state is not held.state:
            session.counted[change.state.value] += 1
    _CHANGE.run_many(session.connection, rows)
    if final:
        _tell_end(session, final, changes)


def _tell_end(session: Session, numbers: Sequence[int], changes: Mapping[int, tuple[Held, Change]]) -> None:
    """To the log, later, and to webhooks."""
    events = []
    hooked = []
    for number in numbers:
        held, change = changes[number]
        told = held.told
        if told.has_webhook:
            hooked.append(number)
        events.append(
            {
                "job_id": told.id,
                "sequence": 2,
                "event": change.state.value,
                "at_us": session.clock_us,
                "tenant": told.tenant,
                "model": told.model,
                "attempts": change.attempts,
                "error": change.error,
            }
        )
    _TELL.run_many(session.connection, events)
    if hooked:
        _HOOK.run(session.connection, {"hooked": listed(hooked), "from_us": session.now_us})


_HELD = Statement(
    select(
        JOBS.c.number,
        JOBS.c.state,
        JOBS.c.epoch,
        JOBS.c.due_us,
        JOBS.c.attempts,
        JOBS.c.refusals,
        JOBS.c.cancel_asked,
        JOBS.c.expires_us,
        JOBS.c.error,
        JOBS.c.losses,
        JOBS.c.id,
        JOBS.c.tenant,
        JOBS.c.model,
        JOBS.c.has_webhook,
    )
    .where(among(JOBS.c.number, "numbers"))
    .with_for_update()
)
_CHANGE = Statement(
    update(JOBS)
    .where(JOBS.c.number == bindparam("changed"))
    .values(
        {
            column: bindparam(column)
            for column in (
                "state",
                "due_us",
                "attempts",
                "refusals",
                "losses",
                "cancel_asked",
                "error",
                "finished_us",
            )
        }
    )
)
_TELL = Statement(
    insert(EVENTS),
    ("job_id", "sequence", "event", "at_us", "tenant", "model", "attempts", "error"),
)
_HOOK = Statement(
    update(WEBHOOKS)
    .where(among(WEBHOOKS.c.job, "hooked"))
    .values(state=DeliveryState.PENDING.value, due_us=bindparam("from_us"))
)
_WAITING = Statement(
    select(func.count()).select_from(
        select(JOBS.c.number).where(JOBS.c.state == JobState.QUEUED.value).limit(bindparam("most")).subquery()
    )
)
_WAITING_OF_ONE = Statement(
    select(func.count()).select_from(
        select(JOBS.c.number)
        .where(JOBS.c.state == JobState.QUEUED.value, JOBS.c.tenant == bindparam("whose"))
        .limit(bindparam("most"))
        .subquery()
    )
)
