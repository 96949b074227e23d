"""Settings of the log: where it is, and how Kafka is reached where it is there."""

from typing import Annotated

import msgspec
from msgspec import Meta

__all__ = ["KafkaSettings", "LogSettings"]

SECRETS = ("tls_key_password", "password", "oauth_secret")
Count = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]


class LogSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where events are kept, and how."""

    url: str = ""
    """Empty: the embedded log, in the folder `log` of the home folder. Kafka: `kafka://host:9092`, with commas
    between several."""
    lease_s: Seconds = 10.0
    """A consumer that neither polls, commits nor renews its lease for so long loses its partitions. The same in
    all processes.
    """
    queue_rows_max: Count = 262_144
    """Records that a process has appended and not written yet; whoever appends more waits."""
    queue_bytes_max: Count = 256 * 1024 * 1024


class KafkaSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where `log.url` begins with `kafka://`."""

    tls: bool = False
    """Whether brokers are spoken to over TLS."""
    tls_ca_file: str = ""
    """Certificates that brokers are checked against; empty: those that the system trusts."""
    tls_certificate_file: str = ""
    """This client's own certificate, and its key, where brokers want one."""
    tls_key_file: str = ""
    tls_key_password: str = ""
    sasl: Annotated[str, Meta(pattern="^(|PLAIN|SCRAM-SHA-256|SCRAM-SHA-512|OAUTHBEARER)\\Z")] = ""
    """How this client says who it is; empty: not at all."""
    user: str = ""
    """For PLAIN and SCRAM."""
    password: str = ""
    oauth_token_url: str = ""
    """Where OAUTHBEARER gets its tokens, with the client and its secret."""
    oauth_client: str = ""
    oauth_secret: str = ""
    oauth_scope: str = ""
    replication: Annotated[int, Meta(ge=0, le=32)] = 0
    """How many brokers have each record; 0: as the brokers make topics by default. 3 survives one of three."""
    in_sync_min: Annotated[int, Meta(ge=0, le=32)] = 0
    """How many of them must have it before it counts as written; 0: by the brokers' default."""
    record_bytes_max: Annotated[int, Meta(ge=1024, le=512 * 1024 * 1024)] = 1024 * 1024
    """The value, key and headers of one record."""
    write_s_max: Seconds = 30.0
    """How long a write may take, with all that is tried again, before it fails."""
    transaction_s_max: Annotated[float, Meta(gt=0, le=900)] = 60.0
    """A transaction that takes longer is aborted by the brokers: those who read wait for it until then."""
    poll_s_max: Annotated[float, Meta(ge=10, le=86_400)] = 300.0
    """A consumer that does not poll for so long loses its partitions, even if its process lives."""

    def __repr__(self) -> str:
        """Without the secrets."""
        shown = {each.name: getattr(self, each.name) for each in msgspec.structs.fields(self)}
        shown.update({name: "***" for name in SECRETS if shown[name]})
        return f"KafkaSettings({', '.join(f'{name}={value!r}' for name, value in shown.items())})"
