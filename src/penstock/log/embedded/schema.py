"""The tables of an embedded log."""

__all__ = ["APPLICATION_ID", "BASE_BITS", "PARTITIONS_MAX", "TABLES", "VERSION"]

APPLICATION_ID = 0x50535447
"""In the file's header, where `file` and SQLite itself can see it."""
VERSION = 1
BASE_BITS = 47
"""A frame's row is at `partition << BASE_BITS | base offset`: the frames of a partition lie together and in
order, and no index besides is needed. That is room for 10^14 records in each of 65,535 partitions."""
PARTITIONS_MAX = (1 << (63 - BASE_BITS)) - 1

TABLES = (
    """CREATE TABLE topics (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        partitions INTEGER NOT NULL,
        retention_s REAL,
        retention_bytes INTEGER
    )""",
    # What is kept of a partition: offsets from `begins` to before `ends`. `time_high_ms` is the highest time of
    # a record, `appended_ms` that of the last append.
    """CREATE TABLE partitions (
        id INTEGER PRIMARY KEY,
        topic INTEGER NOT NULL REFERENCES topics,
        number INTEGER NOT NULL,
        begins INTEGER NOT NULL DEFAULT 0,
        ends INTEGER NOT NULL DEFAULT 0,
        size_bytes INTEGER NOT NULL DEFAULT 0,
        time_high_ms INTEGER NOT NULL DEFAULT -9223372036854775808,
        appended_ms INTEGER NOT NULL DEFAULT 0,
        UNIQUE (topic, number)
    )""",
    # `time_high_ms` is the highest time of this frame and all before it in its partition, so that it only
    # grows, and the first record of a time is found by halving.
    """CREATE TABLE frames (
        id INTEGER PRIMARY KEY,
        count INTEGER NOT NULL,
        time_min_ms INTEGER NOT NULL,
        time_max_ms INTEGER NOT NULL,
        time_high_ms INTEGER NOT NULL,
        appended_ms INTEGER NOT NULL,
        checksum INTEGER NOT NULL,
        body BLOB NOT NULL
    )""",
    "CREATE TABLE identities (name TEXT PRIMARY KEY, epoch INTEGER NOT NULL) WITHOUT ROWID",
    # `generation` grows with everything that members have to hear of.
    "CREATE TABLE groups (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, generation INTEGER NOT NULL)",
    """CREATE TABLE members (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        group_id INTEGER NOT NULL REFERENCES groups,
        token TEXT NOT NULL,
        topics TEXT NOT NULL,
        boot TEXT NOT NULL,
        lease_s REAL NOT NULL,
        seen_s REAL NOT NULL
    )""",
    "CREATE INDEX members_of_group ON members (group_id)",
    # Who has a partition, and who shall have it. Each owner in turn has an epoch of its own.
    """CREATE TABLE owners (
        group_id INTEGER NOT NULL REFERENCES groups,
        partition INTEGER NOT NULL REFERENCES partitions,
        epoch INTEGER NOT NULL,
        owner INTEGER,
        target INTEGER,
        PRIMARY KEY (group_id, partition)
    ) WITHOUT ROWID""",
    """CREATE TABLE offsets (
        group_id INTEGER NOT NULL REFERENCES groups,
        partition INTEGER NOT NULL REFERENCES partitions,
        next INTEGER NOT NULL,
        PRIMARY KEY (group_id, partition)
    ) WITHOUT ROWID""",
)
