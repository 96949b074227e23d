"""Which log a setting names, opened."""

from pathlib import Path

from penstock.core.clock import Clock
from penstock.core.errors import ConfigurationError, shown
from penstock.log.embedded import EmbeddedLog, LogLimits
from penstock.log.port import Log

__all__ = ["open_log"]

FOLDER = "log"


def open_log(url: str, home: Path, clock: Clock, limits: LogLimits | None = None) -> Log:
    """The log at a URL: empty or `embedded` is the one in the folder `log` of `home`, made where there is none.

    Raises `ConfigurationError` for another URL, `StorageFailed` for a log that cannot be opened.
    """
    if url in ("", "embedded"):
        return EmbeddedLog(home / FOLDER, clock, limits)
    scheme = url.partition("://")[0]
    if scheme == "kafka":
        # What was given may hold a password, so it is not repeated.
        raise ConfigurationError(
            "log.url names Kafka, which this version of Penstock cannot use yet",
            hint="leave log.url empty for the embedded log",
        )
    raise ConfigurationError(
        f"log.url cannot begin with {shown(scheme)}", hint="leave it empty for the embedded log"
    )
