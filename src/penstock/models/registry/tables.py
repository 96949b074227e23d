"""The registry's tables, in types that SQLite and PostgreSQL share."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
)

__all__ = ["ALIASES", "ARTIFACTS", "METADATA", "MODELS", "RATE_LIMITS", "REVISIONS_TABLE", "VERSIONS"]

REVISIONS_TABLE = "registry_revisions"
"""Where Alembic notes the registry's revision: a name of its own, since other parts of the control database
have revisions of their own."""

METADATA = MetaData()

# The row of a model outlives its versions: `last_number` keeps a number from being used again.
MODELS = Table(
    "models",
    METADATA,
    Column("name", String(128), nullable=False),
    Column("last_number", Integer, nullable=False),
    PrimaryKeyConstraint("name", name="models_pkey"),
)

VERSIONS = Table(
    "versions",
    METADATA,
    Column("model", String(128), ForeignKey("models.name", name="versions_model_fkey"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("signature", Text, nullable=False),
    Column("runtime", String(16), nullable=False),
    Column("format", String(16), nullable=False),
    Column("trusted_pickle", Boolean, nullable=False),
    Column("compilations", Text, nullable=False),
    Column("metrics", Text, nullable=False),
    Column("parameters", Text, nullable=False),
    Column("lineage", Text, nullable=False),
    Column("creator", String(256), nullable=False),
    # Microseconds since 1970 in UTC: exact, and no database has another idea of the time zone.
    Column("created_at_us", BigInteger, nullable=False),
    PrimaryKeyConstraint("model", "number", name="versions_pkey"),
)

ARTIFACTS = Table(
    "version_artifacts",
    METADATA,
    Column("model", String(128), nullable=False),
    Column("number", Integer, nullable=False),
    Column("role", String(16), nullable=False),
    Column("digest", String(64), nullable=False, index=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("filename", Text, nullable=False),
    PrimaryKeyConstraint("model", "number", "role", name="version_artifacts_pkey"),
    ForeignKeyConstraint(
        ["model", "number"], ["versions.model", "versions.number"], name="version_artifacts_version_fkey"
    ),
)

ALIASES = Table(
    "aliases",
    METADATA,
    Column("model", String(128), nullable=False),
    Column("alias", String(128), nullable=False),
    Column("number", Integer, nullable=False),
    PrimaryKeyConstraint("model", "alias", name="aliases_pkey"),
    # The database itself refuses to drop a version that an alias points at.
    ForeignKeyConstraint(
        ["model", "number"], ["versions.model", "versions.number"], name="aliases_version_fkey"
    ),
)

# Not of the registry, and of no part that is there yet: what one person changes while servers run is in one
# database, under one chain of revisions. An empty text stands for any tenant, or any model.
RATE_LIMITS = Table(
    "rate_limits",
    METADATA,
    Column("tenant", String(128), nullable=False),
    Column("model", String(128), nullable=False),
    Column("per_second", Float, nullable=False),
    Column("burst", Float, nullable=False),
    Column("unit", String(16), nullable=False),
    PrimaryKeyConstraint("tenant", "model", name="rate_limits_pkey"),
)
