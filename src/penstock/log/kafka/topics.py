"""Topics as Kafka has them: made, checked, described."""

from collections.abc import Mapping, Sequence
from threading import Event

from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from penstock.core.errors import Conflict, StorageFailed
from penstock.log.kafka.catalog import REQUEST_S_MAX, Catalog, result_of
from penstock.log.kafka.configuration import ClientConfiguration
from penstock.log.port import TopicSpec
from penstock.log.topic_specs import check_spec

__all__ = ["Topics"]

PARTITIONS_MAX = 10_000
SEEN_LOOKS_MAX = 300
SEEN_LOOK_S = 0.05
FOR_EVER = "-1"
LONGEST_MS = str(2**63 - 1)


class Topics:
    """Thread-safe."""

    def __init__(self, client: AdminClient, catalog: Catalog, configuration: ClientConfiguration) -> None:
        self._client = client
        self._catalog = catalog
        self._configuration = configuration

    def ensure(self, specs: Sequence[TopicSpec]) -> None:
        """Makes those that are missing, and gives the others the retention that they are wanted with. Raises as
        `Admin.ensure_topics` does, before anything is made.
        """
        for spec in specs:
            check_spec(spec, PARTITIONS_MAX)
        known = self._catalog.all()
        standing = [spec for spec in specs if spec.name in known]
        for spec in standing:
            _check_partitions(spec, known[spec.name])
        configs = self.configs([spec.name for spec in standing])
        for spec in standing:
            self._check_copies(spec.name, configs[spec.name])
        self._make([spec for spec in specs if spec.name not in known])
        changed = [spec for spec in standing if _retention(spec) != _retention_in(configs[spec.name])]
        self._alter(changed)

    def configs(self, names: Sequence[str]) -> dict[str, Mapping[str, str]]:
        """The configuration of each of these topics."""
        if not names:
            return {}
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
        futures = self._client.describe_configs(resources, request_timeout=REQUEST_S_MAX)
        return {
            resource.name: {
                name: entry.value
                for name, entry in result_of(future, f"topic {resource.name} was not described").items()
            }
            for resource, future in futures.items()
        }

    @staticmethod
    def spec_of(name: str, partitions: int, config: Mapping[str, str]) -> TopicSpec:
        retention = _retention_in(config)
        ms, size = retention["retention.ms"], retention["retention.bytes"]
        return TopicSpec(
            name=name,
            partitions=partitions,
            retention_s=None if ms == FOR_EVER else int(ms) / 1000,
            retention_bytes=None if size == FOR_EVER else int(size),
        )

    def _make(self, specs: Sequence[TopicSpec]) -> None:
        if not specs:
            return
        settings = self._configuration.settings
        config = {
            "max.message.bytes": str(self._configuration.message_bytes_max),
            # Events have the times that they have: by default those an hour ahead are refused.
            "message.timestamp.type": "CreateTime",
            "message.timestamp.after.max.ms": LONGEST_MS,
            "message.timestamp.before.max.ms": LONGEST_MS,
        }
        if settings.in_sync_min:
            config["min.insync.replicas"] = str(settings.in_sync_min)
        wanted = [
            NewTopic(
                spec.name,
                num_partitions=spec.partitions,
                replication_factor=settings.replication or -1,
                config=config | _retention(spec),
            )
            for spec in specs
        ]
        futures = self._client.create_topics(wanted, request_timeout=REQUEST_S_MAX)
        for spec in specs:
            try:
                result_of(futures[spec.name], f"topic {spec.name} was not made")
            except Conflict:
                # Another process was quicker, and may have wanted the same.
                _check_partitions(spec, self._catalog.partitions_of(spec.name))
        self._wait_until_seen({spec.name for spec in specs})

    def _wait_until_seen(self, names: set[str]) -> None:
        """Brokers hear of a topic a little after it is made."""
        pause = Event()
        for _ in range(SEEN_LOOKS_MAX):
            if names <= self._catalog.all().keys():
                return
            pause.wait(SEEN_LOOK_S)
        missing = ", ".join(sorted(names - self._catalog.all().keys()))
        raise StorageFailed(
            f"topics were made, but brokers do not know them yet: {missing}", hint="try again in a while"
        )

    def _alter(self, specs: Sequence[TopicSpec]) -> None:
        resources = [
            ConfigResource(
                ResourceType.TOPIC,
                spec.name,
                incremental_configs=[
                    ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
                    for name, value in _retention(spec).items()
                ],
            )
            for spec in specs
        ]
        if resources:
            futures = self._client.incremental_alter_configs(resources, request_timeout=REQUEST_S_MAX)
            for resource, future in futures.items():
                result_of(future, f"the retention of topic {resource.name} was not changed")

    def _check_copies(self, name: str, config: Mapping[str, str]) -> None:
        settings = self._configuration.settings
        in_sync = int(config.get("min.insync.replicas", "1"))
        if settings.in_sync_min and in_sync < settings.in_sync_min:
            raise Conflict(
                f"topic {name} has min.insync.replicas {in_sync}, less than kafka.in_sync_min,"
                f" {settings.in_sync_min}",
                hint="raise the topic's with kafka-configs.sh, or lower the setting",
            )
        if settings.replication:
            copies = self._catalog.copies_of(name)
            if copies < settings.replication:
                raise Conflict(
                    f"topic {name} has {copies} copies, less than kafka.replication, {settings.replication}",
                    hint="raise the topic's with kafka-reassign-partitions.sh, or lower the setting",
                )


def _check_partitions(spec: TopicSpec, found: int) -> None:
    if found != spec.partitions:
        raise Conflict(
            f"topic {spec.name} has {found} partitions, not {spec.partitions}",
            hint="keys would move to other partitions: copy it into another topic,"
            f" `penstock log replay {spec.name} --from begin --into OTHER --partitions {spec.partitions}`",
        )


def _retention(spec: TopicSpec) -> dict[str, str]:
    return {
        "retention.ms": FOR_EVER if spec.retention_s is None else str(max(1, round(spec.retention_s * 1000))),
        "retention.bytes": FOR_EVER if spec.retention_bytes is None else str(spec.retention_bytes),
    }


def _retention_in(config: Mapping[str, str]) -> dict[str, str]:
    return {name: config.get(name, FOR_EVER) for name in ("retention.ms", "retention.bytes")}
