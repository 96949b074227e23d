"""The tables of jobs, in types that SQLite and PostgreSQL share."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    text,
)

__all__ = [
    "ANSWERS",
    "CLOCKS",
    "EVENTS",
    "JOBS",
    "KEEPERS",
    "METADATA",
    "REQUESTS",
    "REVISIONS",
    "SUSPECT",
    "WEBHOOKS",
]

METADATA = MetaData()
_Number = BigInteger().with_variant(Integer, "sqlite")

REVISIONS = Table("job_revisions", METADATA, Column("revision", Integer, nullable=False))

# Small rows, which change several times; what is large and does not change stands beside them. Numbers are
# never used again (AUTOINCREMENT): a process that stood still for days must not take another job for its own.
JOBS = Table(
    "jobs",
    METADATA,
    Column("number", _Number, primary_key=True),
    Column("id", String(64), nullable=False),
    Column("tenant", String(256), nullable=False),
    Column("idempotency_key", String(256)),
    Column("digest", String(64), nullable=False),
    Column("model", String(128), nullable=False),
    Column("state", String(16), nullable=False),
    # Who claims it is one more; what is written under a smaller one is not.
    Column("epoch", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("refusals", Integer, nullable=False),
    # How many processes had it and were not heard of again: such a job is run alone.
    Column("losses", Integer, nullable=False),
    Column("cancel_asked", Boolean, nullable=False),
    # When the next thing happens by itself: it may be claimed, its lease ends, it is forgotten.
    Column("due_us", BigInteger, nullable=False),
    # These are what people read, by the clock; all others are of a time that does not step.
    Column("created_us", BigInteger, nullable=False),
    Column("started_us", BigInteger),
    Column("finished_us", BigInteger),
    Column("expires_us", BigInteger),
    Column("waits_us", BigInteger, nullable=False),
    Column("has_webhook", Boolean, nullable=False),
    Column("error", Text, nullable=False),
    Index("jobs_id", "id", unique=True),
    Index("jobs_due", "state", "due_us"),
    Index("jobs_lines", "state", "tenant", "model", "due_us"),
    sqlite_autoincrement=True,
)
# Few: what SQLite compares with a number that it sees, it finds by such an index.
SUSPECT = text("losses > 0")
Index("jobs_suspects", JOBS.c.state, JOBS.c.due_us, sqlite_where=SUSPECT, postgresql_where=SUSPECT)
_keyed = JOBS.c.idempotency_key.is_not(None)
Index(
    "jobs_key",
    JOBS.c.tenant,
    JOBS.c.idempotency_key,
    unique=True,
    sqlite_where=_keyed,
    postgresql_where=_keyed,
)
_mortal = JOBS.c.expires_us.is_not(None) & (JOBS.c.state == "queued")
Index("jobs_expiring", JOBS.c.expires_us, sqlite_where=_mortal, postgresql_where=_mortal)

REQUESTS = Table(
    "job_requests",
    METADATA,
    Column("job", _Number, nullable=False),
    Column("target", Text, nullable=False),
    Column("headers", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    PrimaryKeyConstraint("job", name="job_requests_pkey"),
)

ANSWERS = Table(
    "job_answers",
    METADATA,
    Column("job", _Number, nullable=False),
    Column("status", Integer, nullable=False),
    Column("head", LargeBinary, nullable=False),
    Column("body", LargeBinary, nullable=False),
    PrimaryKeyConstraint("job", name="job_answers_pkey"),
)

# What happened and has not been appended to the log yet.
EVENTS = Table(
    "job_events",
    METADATA,
    Column("number", _Number, primary_key=True),
    Column("job_id", String(64), nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("event", String(16), nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("tenant", String(256), nullable=False),
    Column("model", String(128), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("error", Text, nullable=False),
    sqlite_autoincrement=True,
)

WEBHOOKS = Table(
    "job_webhooks",
    METADATA,
    Column("job", _Number, nullable=False),
    Column("url", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("tenant", String(256), nullable=False),
    Column("state", String(16), nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    # When it may be tried, or the lease of who tries it ends.
    Column("due_us", BigInteger, nullable=False),
    Column("error", Text, nullable=False),
    PrimaryKeyConstraint("job", name="job_webhooks_pkey"),
)
_pending = WEBHOOKS.c.state == "pending"
Index("job_webhooks_due", WEBHOOKS.c.due_us, sqlite_where=_pending, postgresql_where=_pending)

# What to add to the time since the machine started, so that all processes have the same time.
CLOCKS = Table(
    "job_clocks",
    METADATA,
    Column("start", String(64), nullable=False),
    Column("offset_us", BigInteger, nullable=False),
    PrimaryKeyConstraint("start", name="job_clocks_pkey"),
)

# What one process at a time does for all, and which one that is.
KEEPERS = Table(
    "job_keepers",
    METADATA,
    Column("name", String(32), nullable=False),
    Column("holder", String(64), nullable=False),
    Column("until_us", BigInteger, nullable=False),
    PrimaryKeyConstraint("name", name="job_keepers_pkey"),
)
