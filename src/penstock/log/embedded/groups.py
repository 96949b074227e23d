"""Consumer groups in the database: members and their leases, who has which partition, and offsets.

Everything here is done within a transaction of the writer, so that it happens to all members at one moment.
A partition's owner is given an epoch that no owner before it had; what is committed names it, and the
database refuses an epoch that is over. Leases are on the machine's monotonic clock, which its processes share;
one of an earlier boot is void.
"""

import sqlite3
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from penstock.core.errors import Conflict, Fenced, InvalidInput
from penstock.log.embedded.assignment import assign
from penstock.log.embedded.doorbell import is_alive
from penstock.log.embedded.frames import extent_of
from penstock.log.embedded.writer import Session
from penstock.log.port import Membership
from penstock.log.records import TopicPartition

__all__ = ["EmbeddedMembership", "Groups", "Ownership", "boot_identity", "owned"]

BOOT_FILE = Path("/proc/sys/kernel/random/boot_id")
_REBALANCED = "poll again: what the group has committed is where its new owner goes on"


@dataclass(frozen=True, slots=True)
class EmbeddedMembership(Membership):
    """A member of a group, with the epoch of each partition that it has."""

    group_id: int
    member_id: int
    name: str
    epochs: Mapping[TopicPartition, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ownership:
    """A partition that a member has; `staying` is False where it shall let go of it."""

    epoch: int
    staying: bool


def boot_identity() -> str:
    """What is another after each boot; empty where the system does not tell."""
    try:
        return BOOT_FILE.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def owned(connection: sqlite3.Connection, group_id: int, member_id: int) -> dict[int, Ownership] | None:
    """What a member has, by the number of the partition. None where it is no member any more."""
    if connection.execute("SELECT 1 FROM members WHERE id = ?", (member_id,)).fetchone() is None:
        return None
    rows = connection.execute(
        "SELECT partition, epoch, target = owner FROM owners WHERE group_id = ? AND owner = ?",
        (group_id, member_id),
    )
    return {partition: Ownership(epoch, bool(staying)) for partition, epoch, staying in rows}


class Groups:
    """The groups of one log. `folder` is where their doorbells are."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._boot = boot_identity()

    def join(
        self, session: Session, group: str, token: str, topics: Collection[str], lease_s: float
    ) -> tuple[int, int]:
        """A new member; the numbers of the group and of the member. Raises `NotFound` for a missing topic."""
        for topic in topics:
            session.catalog.check_topic(session.connection, topic)
        group_id = self._group_id(session, group)
        self._expire(session, group_id)
        member_id = session.connection.execute(
            "INSERT INTO members (group_id, token, topics, boot, lease_s, seen_s) VALUES (?, ?, ?, ?, ?, ?)",
            (group_id, token, msgspec.json.encode(sorted(topics)).decode(), self._boot, lease_s, session.now_s),
        ).lastrowid
        assert member_id is not None, "a row was inserted"
        self._rebalance(session, group_id)
        return group_id, member_id

    def renew(self, session: Session, group_id: int, member_id: int) -> None:
        """The member's lease begins anew, and those whose lease is over lose what they have."""
        session.connection.execute("UPDATE members SET seen_s = ? WHERE id = ?", (session.now_s, member_id))
        if self._expire(session, group_id):
            self._rebalance(session, group_id)

    def release(self, session: Session, group_id: int, member_id: int, epochs: Mapping[int, int]) -> None:
        """Lets go of partitions that were had under those epochs; they are given to whom they shall go."""
        for partition, epoch in epochs.items():
            session.connection.execute(
                "UPDATE owners SET owner = NULL"
                " WHERE group_id = ? AND partition = ? AND owner = ? AND epoch = ?",
                (group_id, partition, member_id, epoch),
            )
        self._hand_over(session, group_id)

    def leave(self, session: Session, group_id: int, member_id: int) -> None:
        self._remove(session, [member_id])
        self._expire(session, group_id)
        self._rebalance(session, group_id)

    def commit(
        self, session: Session, offsets: Mapping[TopicPartition, int], membership: EmbeddedMembership
    ) -> None:
        """Where the group goes on. Raises `Fenced` where a partition is not the member's, under its epoch."""
        for source, offset in offsets.items():
            partition = session.catalog.id_of(session.connection, source)
            row = session.connection.execute(
                "SELECT epoch, owner FROM owners WHERE group_id = ? AND partition = ?",
                (membership.group_id, partition),
            ).fetchone()
            epoch = membership.epochs.get(source)
            if epoch is None or row != (epoch, membership.member_id):
                raise Fenced(
                    f"nothing was committed: {source} is not this member's of group {membership.name} any more",
                    hint=_REBALANCED,
                )
            self._set_offset(session, membership.group_id, partition, source, offset)
        session.connection.execute(
            "UPDATE members SET seen_s = ? WHERE id = ?", (session.now_s, membership.member_id)
        )

    def reset(self, session: Session, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        """Raises `Conflict` while somebody of the group is there."""
        group_id = self._group_id(session, group)
        if self._expire(session, group_id):
            self._rebalance(session, group_id)
        (count,) = session.connection.execute(
            "SELECT count(*) FROM members WHERE group_id = ?", (group_id,)
        ).fetchone()
        if count:
            raise Conflict(
                f"group {group} has {count} members, which would not notice",
                hint="stop them first; one that was killed is forgotten within its lease",
            )
        for source, offset in offsets.items():
            partition = session.catalog.id_of(session.connection, source)
            self._set_offset(session, group_id, partition, source, offset)

    def _group_id(self, session: Session, group: str) -> int:
        session.connection.execute(
            "INSERT INTO groups (name, generation) VALUES (?, 0) ON CONFLICT DO NOTHING", (group,)
        )
        (group_id,) = session.connection.execute("SELECT id FROM groups WHERE name = ?", (group,)).fetchone()
        return int(group_id)

    def _set_offset(
        self, session: Session, group_id: int, partition: int, source: TopicPartition, offset: int
    ) -> None:
        ends = extent_of(session.connection, partition).ends
        if not 0 <= offset <= ends:
            raise InvalidInput(
                f"a group cannot go on at offset {offset} of {source}",
                where="offset",
                hint=f"0 to {ends} can be",
            )
        session.connection.execute(
            "INSERT INTO offsets VALUES (?, ?, ?)"
            " ON CONFLICT (group_id, partition) DO UPDATE SET next = excluded.next",
            (group_id, partition, offset),
        )

    def _expire(self, session: Session, group_id: int) -> bool:
        """Removes members that have died or let their lease pass. Whether there were any."""
        rows = session.connection.execute(
            "SELECT id, token, boot, lease_s, seen_s FROM members WHERE group_id = ?", (group_id,)
        ).fetchall()
        gone = [
            member_id
            for member_id, token, boot, lease_s, seen_s in rows
            if boot != self._boot
            or not seen_s <= session.now_s <= seen_s + lease_s
            or not is_alive(self._folder, token)
        ]
        self._remove(session, gone)
        return bool(gone)

    def _remove(self, session: Session, members: Iterable[int]) -> None:
        for member_id in members:
            session.connection.execute("DELETE FROM members WHERE id = ?", (member_id,))
            session.connection.execute("UPDATE owners SET owner = NULL WHERE owner = ?", (member_id,))
            session.connection.execute("UPDATE owners SET target = NULL WHERE target = ?", (member_id,))

    def _rebalance(self, session: Session, group_id: int) -> None:
        connection = session.connection
        subscriptions = {
            member_id: frozenset(msgspec.json.decode(topics, type=list[str]))
            for member_id, topics in connection.execute(
                "SELECT id, topics FROM members WHERE group_id = ? ORDER BY id", (group_id,)
            )
        }
        ids = {
            TopicPartition(topic, number): partition
            for topic in sorted(frozenset[str]().union(*subscriptions.values()))
            for partition, number in connection.execute(
                "SELECT partitions.id, number FROM partitions JOIN topics ON topics.id = topic WHERE name = ?",
                (topic,),
            )
        }
        current = dict(
            connection.execute(
                "SELECT partition, target FROM owners WHERE group_id = ? AND target IS NOT NULL", (group_id,)
            ).fetchall()
        )
        targets = assign(
            subscriptions, ids, {source: current[each] for source, each in ids.items() if each in current}
        )
        wanted = {ids[source]: member for source, member in targets.items()}
        for partition in current.keys() - wanted.keys():
            connection.execute(
                "UPDATE owners SET target = NULL WHERE group_id = ? AND partition = ?", (group_id, partition)
            )
        connection.executemany(
            "INSERT INTO owners VALUES (?, ?, 0, NULL, ?)"
            " ON CONFLICT (group_id, partition) DO UPDATE SET target = excluded.target",
            [(group_id, partition, member) for partition, member in wanted.items()],
        )
        self._hand_over(session, group_id)

    def _hand_over(self, session: Session, group_id: int) -> None:
        """Gives what nobody has to whom it shall go, and lets all members know that something has changed."""
        session.connection.execute(
            "UPDATE owners SET owner = target, epoch = epoch + 1"
            " WHERE group_id = ? AND owner IS NULL AND target IS NOT NULL",
            (group_id,),
        )
        session.connection.execute("UPDATE groups SET generation = generation + 1 WHERE id = ?", (group_id,))
        session.rings = True
