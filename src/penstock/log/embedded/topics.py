"""Topics and their partitions: made, found, listed."""

import sqlite3
from collections.abc import Iterable

from penstock.core.errors import Conflict, NotFound, StorageFailed, shown
from penstock.log.embedded.schema import PARTITIONS_MAX
from penstock.log.port import TopicInfo, TopicSpec
from penstock.log.records import TopicPartition
from penstock.log.topic_specs import check_spec

__all__ = ["Catalog", "ensure_topics", "topic_infos"]


class Catalog:
    """The numbers under which a database has partitions; they never change, so each is looked up once."""

    def __init__(self) -> None:
        self._ids: dict[TopicPartition, int] = {}
        self._sources: dict[int, TopicPartition] = {}

    def id_of(self, connection: sqlite3.Connection, source: TopicPartition) -> int:
        """Raises `NotFound`."""
        found = self._ids.get(source)
        if found is None:
            self._load(connection)
            found = self._ids.get(source)
        if found is None:
            raise self._not_found(source)
        return found

    def source_of(self, connection: sqlite3.Connection, partition: int) -> TopicPartition:
        if partition not in self._sources:
            self._load(connection)
        return self._sources[partition]

    def check_topic(self, connection: sqlite3.Connection, topic: str) -> None:
        """Raises `NotFound`."""
        self.id_of(connection, TopicPartition(topic, 0))

    def _load(self, connection: sqlite3.Connection) -> None:
        rows = connection.execute(
            "SELECT partitions.id, name, number FROM partitions JOIN topics ON topics.id = topic"
        ).fetchall()
        self._ids = {TopicPartition(name, number): partition for partition, name, number in rows}
        self._sources = {partition: source for source, partition in self._ids.items()}

    def _not_found(self, source: TopicPartition) -> NotFound:
        count = sum(known.topic == source.topic for known in self._ids)
        if count:
            return NotFound(
                f"topic {source.topic} has no partition {source.partition}", hint=f"it has 0 to {count - 1}"
            )
        return NotFound(
            f"there is no topic {shown(source.topic)}", hint="`penstock log topics` lists those there are"
        )


def ensure_topics(connection: sqlite3.Connection, specs: Iterable[TopicSpec]) -> None:
    """Makes those that are missing, and gives the others the retention that they are wanted with.

    Raises `InvalidInput` for a spec that cannot be, `Conflict` for another number of partitions.
    """
    for spec in specs:
        check_spec(spec, PARTITIONS_MAX)
        found = connection.execute("SELECT id, partitions FROM topics WHERE name = ?", (spec.name,)).fetchone()
        if found is None:
            _make(connection, spec)
        elif found[1] != spec.partitions:
            raise Conflict(
                f"topic {spec.name} has {found[1]} partitions, not {spec.partitions}",
                hint="keys would move to other partitions: copy it into another topic,"
                f" `penstock log replay {spec.name} --from begin --into OTHER --partitions {spec.partitions}`",
            )
        else:
            connection.execute(
                "UPDATE topics SET retention_s = ?, retention_bytes = ? WHERE id = ?",
                (spec.retention_s, spec.retention_bytes, found[0]),
            )


def topic_infos(connection: sqlite3.Connection) -> tuple[TopicInfo, ...]:
    """All topics, in the order of their names."""
    infos = []
    topics = connection.execute(
        "SELECT id, name, partitions, retention_s, retention_bytes FROM topics ORDER BY name"
    )
    for topic, name, partitions, retention_s, retention_bytes in topics.fetchall():
        rows = connection.execute(
            "SELECT begins, ends, size_bytes FROM partitions WHERE topic = ? ORDER BY number", (topic,)
        ).fetchall()
        infos.append(
            TopicInfo(
                spec=TopicSpec(
                    name=name,
                    partitions=partitions,
                    retention_s=retention_s,
                    retention_bytes=retention_bytes,
                ),
                begins=tuple(begins for begins, _, _ in rows),
                ends=tuple(ends for _, ends, _ in rows),
                size_bytes=sum(size_bytes for _, _, size_bytes in rows),
            )
        )
    return tuple(infos)


def _make(connection: sqlite3.Connection, spec: TopicSpec) -> None:
    (last,) = connection.execute("SELECT coalesce(max(id), 0) FROM partitions").fetchone()
    if last + spec.partitions > PARTITIONS_MAX:
        raise StorageFailed(
            f"topic {spec.name} was not made: a log has {PARTITIONS_MAX} partitions at most",
            hint="take fewer partitions, or another home",
        )
    topic = connection.execute(
        "INSERT INTO topics (name, partitions, retention_s, retention_bytes) VALUES (?, ?, ?, ?)",
        (spec.name, spec.partitions, spec.retention_s, spec.retention_bytes),
    ).lastrowid
    connection.executemany(
        "INSERT INTO partitions (topic, number) VALUES (?, ?)",
        [(topic, number) for number in range(spec.partitions)],
    )
