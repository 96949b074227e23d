"""Which log a setting names, opened."""

from importlib.util import find_spec
from pathlib import Path

from penstock.core.clock import Clock
from penstock.core.errors import ConfigurationError, shown
from penstock.core.settings import KafkaSettings, Settings
from penstock.log.embedded import EmbeddedLog, LogLimits
from penstock.log.port import Log

__all__ = ["open_from_settings", "open_log"]

FOLDER = "log"


def open_from_settings(settings: Settings, clock: Clock) -> Log:
    """The log that the settings name. Raises as `open_log` does."""
    limits = LogLimits(
        lease_s=settings.log.lease_s,
        queue_rows_max=settings.log.queue_rows_max,
        queue_bytes_max=settings.log.queue_bytes_max,
    )
    return open_log(settings.log.url, Path(settings.home), clock, limits, settings.kafka)


def open_log(
    url: str, home: Path, clock: Clock, limits: LogLimits | None = None, kafka: KafkaSettings | None = None
) -> Log:
    """The log at a URL: empty or `embedded` is the one in the folder `log` of `home`, made where there is none;
    `kafka://host:9092` is on those brokers.

    Raises `ConfigurationError` for another URL, `StorageFailed` for a log that cannot be opened.
    """
    if url in ("", "embedded"):
        return EmbeddedLog(home / FOLDER, clock, limits)
    scheme, colon, _ = url.partition("://")
    if scheme == "kafka":
        return _on_kafka(url, clock, limits or LogLimits(), kafka or KafkaSettings())
    # What was given may hold a password, so it is not repeated.
    named = f"begin with {shown(scheme)}" if colon else "be what it is: it is no URL"
    raise ConfigurationError(
        f"log.url cannot {named}", hint="leave it empty for the embedded log, or name kafka://host:9092"
    )


def _on_kafka(url: str, clock: Clock, limits: LogLimits, kafka: KafkaSettings) -> Log:
    if find_spec("confluent_kafka") is None:
        raise ConfigurationError(
            "log.url names Kafka, whose client is not installed", hint="pip install 'penstock[kafka]'"
        )
    from penstock.log.kafka import ClientConfiguration, KafkaLog, brokers_of

    configuration = ClientConfiguration(
        brokers=brokers_of(url),
        settings=kafka,
        lease_s=limits.lease_s,
        queue_rows_max=limits.queue_rows_max,
        queue_bytes_max=limits.queue_bytes_max,
    )
    return KafkaLog(configuration, clock)
