"""What Kafka refuses, in the words of Penstock's errors."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock.core.errors import (
    ConfigurationError,
    Conflict,
    CorruptRecords,
    Fenced,
    Forbidden,
    InvalidInput,
    NotFound,
    PenstockError,
    StorageFailed,
    TooLarge,
)

if TYPE_CHECKING:
    from confluent_kafka import KafkaError

__all__ = ["Fault", "error_of", "fault_of"]

PRODUCER_FENCED = {"_FENCED", "PRODUCER_FENCED", "INVALID_PRODUCER_EPOCH", "INVALID_PRODUCER_ID_MAPPING"}
MEMBER_FENCED = {
    "ILLEGAL_GENERATION",
    "UNKNOWN_MEMBER_ID",
    "FENCED_INSTANCE_ID",
    "FENCED_MEMBER_EPOCH",
    "STALE_MEMBER_EPOCH",
    "REBALANCE_IN_PROGRESS",
}
UNREACHED = {"_TRANSPORT", "_ALL_BROKERS_DOWN", "_RESOLVE", "_TIMED_OUT", "_MSG_TIMED_OUT", "REQUEST_TIMED_OUT"}
TOO_FEW = {"NOT_ENOUGH_REPLICAS", "NOT_ENOUGH_REPLICAS_AFTER_APPEND"}
UNKNOWN = {"UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_TOPIC", "_UNKNOWN_PARTITION", "UNKNOWN_TOPIC_ID"}
NOT_LOGGED_IN = {"_AUTHENTICATION", "SASL_AUTHENTICATION_FAILED", "_SSL", "UNSUPPORTED_SASL_MECHANISM"}
CORRUPT = {"_BAD_MSG", "INVALID_MSG", "_BAD_COMPRESSION"}
BAD_TOPIC = {
    "TOPIC_EXCEPTION",
    "INVALID_PARTITIONS",
    "INVALID_REPLICATION_FACTOR",
    "INVALID_CONFIG",
    "POLICY_VIOLATION",
}
_TOLD: tuple[tuple[set[str], tuple[type[PenstockError], str]], ...] = (
    (PRODUCER_FENCED, (Fenced, "one at a time can use an identity: give each worker its own, or end this one")),
    (MEMBER_FENCED, (Fenced, "its partitions are another's by now; it goes on with what it has")),
    (UNKNOWN, (NotFound, "`penstock log topics` lists the topics that there are")),
    (
        {"MSG_SIZE_TOO_LARGE", "RECORD_LIST_TOO_LARGE"},
        (TooLarge, "send less in a record, or raise kafka.record_bytes_max and the topic's max.message.bytes"),
    ),
    (NOT_LOGGED_IN, (ConfigurationError, "look at kafka.tls and kafka.sasl, and the user and password there")),
    (CORRUPT, (CorruptRecords, "`penstock log` can go past it; another replica may have it whole")),
    (BAD_TOPIC, (InvalidInput, "look at the topic's name, its partitions and kafka.replication")),
    ({"TOPIC_ALREADY_EXISTS", "NON_EMPTY_GROUP"}, (Conflict, "somebody else was there first: look again")),
)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """An error of Kafka's client: its name there, and the text that it comes with."""

    name: str
    text: str
    fatal: bool = False


def fault_of(error: "KafkaError") -> Fault:
    return Fault(name=error.name(), text=error.str(), fatal=error.fatal())


def error_of(fault: Fault, doing: str, *, where: str | None = None) -> PenstockError:
    """`doing` says what did not happen: 'nothing was written to events/0'. `where` is topic/partition."""
    message = f"{doing}: Kafka says {fault.name}: {fault.text}"
    kind, hint = next((told for names, told in _TOLD if fault.name in names), (StorageFailed, ""))
    if fault.name.endswith("_AUTHORIZATION_FAILED"):
        kind, hint = Forbidden, "have whoever runs Kafka allow it (its ACLs) for this client's user"
    if kind is CorruptRecords:
        return CorruptRecords(message, where=where, hint=hint)
    if issubclass(kind, InvalidInput):
        return kind(message, where=where, hint=hint)
    return kind(message, hint=hint or _storage_hint(fault))


def _storage_hint(fault: Fault) -> str:
    if fault.name in TOO_FEW:
        return (
            "fewer brokers have the topic than its min.insync.replicas asks for: start those that are down;"
            " what was there stands"
        )
    if fault.name in UNREACHED:
        return (
            "look whether the brokers of log.url run and can be reached from here, also by the names they give"
        )
    if fault.name == "KAFKA_STORAGE_ERROR":
        return "a broker's disk fails or is full: its log says which"
    return "the brokers' logs say more; what was committed before stands"
