"""The online store of one machine, in SQLite."""

from penstock.features.embedded.online_store import EmbeddedOnlineStore

__all__ = ["EmbeddedOnlineStore"]
