"""The log on SQLite: one file, which any number of processes of a machine append to and read."""

from penstock.log.embedded.embedded_log import EmbeddedLog
from penstock.log.embedded.limits import LogLimits

__all__ = ["EmbeddedLog", "LogLimits"]
