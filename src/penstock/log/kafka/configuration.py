"""What Kafka's client, librdkafka, is told: settings on the one side, its properties on the other."""

import logging
from dataclasses import dataclass
from pathlib import Path

from penstock.core.errors import ConfigurationError
from penstock.core.log_settings import KafkaSettings

__all__ = ["CLIENT_LOG", "ClientConfiguration", "Properties"]

CLIENT_LOG = logging.getLogger("penstock.log.kafka.client")
"""What librdkafka has to say."""
Properties = dict[str, str | int | float | bool]

OVERHEAD_BYTES = 64 * 1024
"""What a record may take beside its value, key and headers, and a batch around it."""
FETCH_BYTES_MIN = 1024 * 1024
PREFETCH_BYTES = 64 * 1024 * 1024
HEARTBEATS_A_LEASE = 4


@dataclass(frozen=True, kw_only=True)
class ClientConfiguration:
    """Properties for each kind of client. The secrets in them are for nobody's eyes."""

    brokers: str
    settings: KafkaSettings
    lease_s: float = 10.0
    queue_rows_max: int = 262_144
    queue_bytes_max: int = 256 * 1024 * 1024

    def __post_init__(self) -> None:
        """Raises `ConfigurationError` for settings that do not go together."""
        _check_tls(self.settings)
        _check_sasl(self.settings)
        _check_replication(self.settings)
        if self.settings.poll_s_max < self.lease_s:
            raise ConfigurationError(
                f"kafka.poll_s_max is {self.settings.poll_s_max:g} s, shorter than log.lease_s,"
                f" {self.lease_s:g} s",
                hint="make it longer than that",
            )

    @property
    def message_bytes_max(self) -> int:
        """Of a record with all that is around it: what topics have to allow."""
        return self.settings.record_bytes_max + OVERHEAD_BYTES

    def common(self) -> Properties:
        """Of every client."""
        settings = self.settings
        secured = ("SASL_SSL" if settings.sasl else "SSL") if settings.tls else "PLAINTEXT"
        if settings.sasl and not settings.tls:
            secured = "SASL_PLAINTEXT"
        found: Properties = {
            "bootstrap.servers": self.brokers,
            "client.id": "penstock",
            "security.protocol": secured,
            "socket.keepalive.enable": True,
            # It backs off by up to 10 s otherwise, which would make a broker's restart longer than it is.
            "reconnect.backoff.max.ms": 2000,
            "allow.auto.create.topics": False,
        }
        return found | _tls(settings) | _sasl(settings)

    def producer(self) -> Properties:
        return self.common() | {
            "enable.idempotence": True,
            "acks": "all",
            "compression.type": "lz4",
            "linger.ms": 2,
            "message.max.bytes": self.message_bytes_max,
            "message.timeout.ms": _ms(self.settings.write_s_max),
            "queue.buffering.max.messages": self.queue_rows_max,
            "queue.buffering.max.kbytes": max(self.queue_bytes_max // 1024, self.message_bytes_max // 1024 + 1),
        }

    def transactional(self, identity: str) -> Properties:
        longest_s = min(self.settings.write_s_max, self.settings.transaction_s_max)
        return self.producer() | {
            "transactional.id": identity,
            "transaction.timeout.ms": _ms(self.settings.transaction_s_max),
            # It must not outlive the transaction.
            "message.timeout.ms": _ms(longest_s),
        }

    def consumer(self, group: str) -> Properties:
        return self.reader() | {
            "group.id": group,
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": _ms(self.lease_s),
            "heartbeat.interval.ms": _ms(self.lease_s / HEARTBEATS_A_LEASE),
            "max.poll.interval.ms": _ms(self.settings.poll_s_max),
        }

    def reader(self) -> Properties:
        """A consumer that is given its partitions, and is of a group in name only: it commits nothing."""
        return self.common() | {
            "group.id": "penstock-reader",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            # What is out of range is told instead of skipped: this side counts what was let go of.
            "auto.offset.reset": "error",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 100,
            # By default it waits for a second once it has read far enough ahead, and the worker then for it.
            "fetch.queue.backoff.ms": 10,
            "max.partition.fetch.bytes": max(FETCH_BYTES_MIN, self.message_bytes_max),
            "queued.max.messages.kbytes": max(PREFETCH_BYTES, 2 * self.message_bytes_max) // 1024,
        }


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _tls(settings: KafkaSettings) -> Properties:
    named = {
        "ssl.ca.location": settings.tls_ca_file,
        "ssl.certificate.location": settings.tls_certificate_file,
        "ssl.key.location": settings.tls_key_file,
        "ssl.key.password": settings.tls_key_password,
    }
    return {name: value for name, value in named.items() if value}


def _sasl(settings: KafkaSettings) -> Properties:
    if not settings.sasl:
        return {}
    if settings.sasl != "OAUTHBEARER":
        return {
            "sasl.mechanism": settings.sasl,
            "sasl.username": settings.user,
            "sasl.password": settings.password,
        }
    found: Properties = {
        "sasl.mechanism": settings.sasl,
        "sasl.oauthbearer.method": "oidc",
        "sasl.oauthbearer.client.id": settings.oauth_client,
        "sasl.oauthbearer.client.secret": settings.oauth_secret,
        "sasl.oauthbearer.token.endpoint.url": settings.oauth_token_url,
    }
    return found | ({"sasl.oauthbearer.scope": settings.oauth_scope} if settings.oauth_scope else {})


def _check_tls(settings: KafkaSettings) -> None:
    for name in ("tls_ca_file", "tls_certificate_file", "tls_key_file"):
        file = getattr(settings, name)
        if file and not settings.tls:
            raise ConfigurationError(f"kafka.{name} is set without kafka.tls", hint="set kafka.tls = true")
        if file and not Path(file).is_file():
            raise ConfigurationError(f"kafka.{name}: there is no file {file}")
    if bool(settings.tls_certificate_file) != bool(settings.tls_key_file):
        raise ConfigurationError(
            "kafka.tls_certificate_file and kafka.tls_key_file go together", hint="set both"
        )


def _check_sasl(settings: KafkaSettings) -> None:
    named = {
        "": (),
        "OAUTHBEARER": ("oauth_token_url", "oauth_client", "oauth_secret"),
    }
    wanted = named.get(settings.sasl, ("user", "password"))
    missing = [f"kafka.{name}" for name in wanted if not getattr(settings, name)]
    if missing:
        raise ConfigurationError(f"kafka.sasl = {settings.sasl!r} needs {' and '.join(missing)}")
    known = ("user", "password", "oauth_token_url", "oauth_client", "oauth_secret", "oauth_scope")
    optional = ("oauth_scope",) if settings.sasl == "OAUTHBEARER" else ()
    for name in known:
        if getattr(settings, name) and name not in (*wanted, *optional):
            raise ConfigurationError(
                f"kafka.{name} is set, which kafka.sasl = {settings.sasl!r} has no use for",
                hint="set kafka.sasl to PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512 for a user and a password, to"
                " OAUTHBEARER for a token",
            )


def _check_replication(settings: KafkaSettings) -> None:
    if settings.replication and settings.in_sync_min > settings.replication:
        raise ConfigurationError(
            f"kafka.in_sync_min is {settings.in_sync_min}, and kafka.replication only {settings.replication}",
            hint="2 of 3 is common",
        )
