"""Versions as rows: writing one, reading them back, and the digest that ties the two."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

import msgspec
from sqlalchemy import ColumnElement, Connection, RowMapping, insert, select

from penstock.core.errors import CorruptArtifact, PenstockError
from penstock.core.signature import Signature
from penstock.models.registry.tables import ARTIFACTS, VERSIONS
from penstock.models.version import Artifact, Compilation, Lineage, ModelVersion, RuntimeKind, SourceFormat

__all__ = ["Identity", "insert_version", "select_versions"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FACTS = (
    "signature",
    "runtime",
    "format",
    "trusted_pickle",
    "compilations",
    "metrics",
    "parameters",
    "lineage",
)
_SIGNATURE = msgspec.json.Decoder(Signature)
_COMPILATIONS = msgspec.json.Decoder(tuple[Compilation, ...])
_METRICS = msgspec.json.Decoder(dict[str, float])
_PARAMETERS = msgspec.json.Decoder(dict[str, str | int | float | bool])
_LINEAGE = msgspec.json.Decoder(Lineage)


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What a version's digest does not cover: its place, who pushed it and when."""

    model: str
    number: int
    creator: str
    created_at: datetime


def insert_version(
    connection: Connection,
    identity: Identity,
    facts: Mapping[str, str | bool],
    artifacts: Mapping[str, Artifact],
) -> ModelVersion:
    """Writes the rows of a version and gives it as it will be read back."""
    digest = digest_of(identity.model, facts, artifacts)
    row = {
        "model": identity.model,
        "number": identity.number,
        "digest": digest,
        "creator": identity.creator,
        "created_at_us": (identity.created_at - _EPOCH) // timedelta(microseconds=1),
        **facts,
    }
    connection.execute(insert(VERSIONS).values(row))
    connection.execute(
        insert(ARTIFACTS),
        [
            {
                "model": identity.model,
                "number": identity.number,
                "role": role,
                "digest": artifact.digest,
                "size_bytes": artifact.size_bytes,
                "filename": artifact.filename,
            }
            for role, artifact in artifacts.items()
        ],
    )
    return _version(row, artifacts)


def select_versions(
    connection: Connection, condition: ColumnElement[bool], *, limit: int
) -> tuple[ModelVersion, ...]:
    """The versions under the condition, newest first. Raises `CorruptArtifact` for a damaged row."""
    rows = (
        connection.execute(
            select(VERSIONS).where(condition).order_by(VERSIONS.c.model, VERSIONS.c.number.desc()).limit(limit)
        )
        .mappings()
        .all()
    )
    artifacts = _select_artifacts(connection, rows)
    return tuple(_checked_version(row, artifacts[row["model"], row["number"]]) for row in rows)


def _select_artifacts(
    connection: Connection, rows: Iterable[RowMapping]
) -> dict[tuple[str, int], dict[str, Artifact]]:
    numbers: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        numbers[row["model"]].append(row["number"])
    found: dict[tuple[str, int], dict[str, Artifact]] = defaultdict(dict)
    for model, of_model in numbers.items():
        # One range rather than a list of numbers, which databases bound.
        between = ARTIFACTS.c.number.between(min(of_model), max(of_model))
        for row in connection.execute(select(ARTIFACTS).where(ARTIFACTS.c.model == model, between)).mappings():
            found[model, row["number"]][row["role"]] = Artifact(
                digest=row["digest"], size_bytes=row["size_bytes"], filename=row["filename"]
            )
    return found


def digest_of(model: str, facts: Mapping[str, str | bool], artifacts: Mapping[str, Artifact]) -> str:
    """SHA-256 over what is immutable, in the text that is stored.

    Over the stored text rather than the decoded values, so that a version keeps its digest when a later
    penstock decodes the same text into richer values.
    """
    covered = {
        "format": "penstock-version-1",
        "model": model,
        "facts": {name: facts[name] for name in _FACTS},
        "artifacts": msgspec.to_builtins(dict(artifacts)),
    }
    return hashlib.sha256(msgspec.json.encode(covered, order="deterministic")).hexdigest()


def _checked_version(row: RowMapping, artifacts: Mapping[str, Artifact]) -> ModelVersion:
    place = f"{row['model']}:{row['number']}"
    hint = "restore the database from a backup, or delete this version and push it again"
    if digest_of(row["model"], {name: row[name] for name in _FACTS}, artifacts) != row["digest"]:
        raise CorruptArtifact(f"the registry's rows of {place} do not have their digest", hint=hint)
    try:
        return _version(row, artifacts)
    except (msgspec.MsgspecError, PenstockError, KeyError, ValueError) as error:
        raise CorruptArtifact(f"the registry's rows of {place} cannot be read: {error}", hint=hint) from error


def _version(row: Mapping[str, object] | RowMapping, artifacts: Mapping[str, Artifact]) -> ModelVersion:
    text = {name: value for name, value in row.items() if isinstance(value, str)}
    number, created_at_us = row["number"], row["created_at_us"]
    assert isinstance(number, int)
    assert isinstance(created_at_us, int)
    return ModelVersion(
        model=text["model"],
        number=number,
        digest=text["digest"],
        signature=_SIGNATURE.decode(text["signature"]),
        runtime=RuntimeKind(text["runtime"]),
        format=SourceFormat(text["format"]),
        source=artifacts["source"],
        compiled=artifacts.get("compiled"),
        golden=artifacts.get("golden"),
        trusted_pickle=bool(row["trusted_pickle"]),
        compilations=_COMPILATIONS.decode(text["compilations"]),
        metrics=_METRICS.decode(text["metrics"]),
        parameters=_PARAMETERS.decode(text["parameters"]),
        lineage=_LINEAGE.decode(text["lineage"]),
        creator=text["creator"],
        created_at=_EPOCH + timedelta(microseconds=created_at_us),
    )
