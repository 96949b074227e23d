"""Collects what no version uses: blobs of pushes that died, of deleted versions, and unfinished files."""

from datetime import datetime
from itertools import islice

import msgspec
from sqlalchemy import Connection, select

from penstock.models.registry.artifacts import ArtifactStore, StoredArtifact
from penstock.models.registry.database import Database
from penstock.models.registry.tables import ARTIFACTS

__all__ = ["Garbage", "collect"]

BATCH = 128
"""How many artifacts are removed while pushes wait for the write lock."""


class Garbage(msgspec.Struct, frozen=True, kw_only=True):
    """What was removed: artifacts by their digests, unfinished files, and the bytes of both."""

    artifacts: tuple[str, ...]
    unfinished_files: int
    freed_bytes: int


def collect(database: Database, store: ArtifactStore, *, before: datetime) -> Garbage:
    """Removes artifacts that no version refers to and unfinished files, both last touched before that time.

    A push stores its artifacts first and refers to them in a transaction later. So whether one is used is
    asked, and the unused removed, under the write lock; and a push asks under the same lock whether all of
    its artifacts are still there. Raises `StorageFailed`; what it says was removed before stays removed.
    """
    removed: list[StoredArtifact] = []
    old = (stored for stored in store.list() if stored.stored_at < before)
    while batch := [stored.digest for stored in islice(old, BATCH)]:
        with database.writing("not all that is unused was removed") as connection:
            used = _used(connection, batch)
            for digest in batch:
                # Asked again: a push may have put it anew since the folder was listed.
                stored = store.stat(digest)
                if digest not in used and stored is not None and stored.stored_at < before:
                    store.delete(digest)
                    removed.append(stored)
    unfinished_bytes = store.sweep(before)
    return Garbage(
        artifacts=tuple(sorted(stored.digest for stored in removed)),
        unfinished_files=len(unfinished_bytes),
        freed_bytes=sum(stored.size_bytes for stored in removed) + sum(unfinished_bytes),
    )


def _used(connection: Connection, digests: list[str]) -> set[str]:
    return set(connection.scalars(select(ARTIFACTS.c.digest).where(ARTIFACTS.c.digest.in_(digests))))
