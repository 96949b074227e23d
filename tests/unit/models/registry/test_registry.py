import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from penstock.core.clock import ManualClock
from penstock.core.errors import Conflict, CorruptArtifact, InvalidInput, NotFound, StorageFailed
from penstock.core.signature import Signature
from penstock.models.registry import AliasMoved, Candidate, FolderArtifactStore, Registry
from penstock.models.registry.registry import PUSH_ATTEMPTS_MAX
from penstock.models.version import Artifact, Compilation, Lineage, Parity, RuntimeKind, SourceFormat

MakeCandidate = Callable[..., Candidate]


def full_facts() -> dict[str, object]:
    parity = Parity(
        rows=100, tolerance=1e-5, labels_differ=0, values_differ=0, difference_max=3e-7, float32_rows=2
    )
    return {
        "signature": Signature.of(inputs={"a": "STRING[-1]", "b": "FP64?[-1, 2]"}, outputs={"y": "INT64[-1]"}),
        "runtime": RuntimeKind.NATIVE,
        "format": SourceFormat.PICKLE,
        "compiled": b"compiled bytes",
        "golden": b"golden bytes",
        "trusted_pickle": True,
        "compilations": (
            Compilation(precision="float32", parity=parity),
            Compilation(precision="float64", parity=None, failure="no such operator: é"),
        ),
        "metrics": {"auc": 0.1 + 0.2, "loss": 1e-300},
        "parameters": {"depth": 3, "rate": 1.0, "on": True, "kind": "gbdt \u0000 ☃"},
        "lineage": Lineage(data="s3://flights@7", code="abc123"),
    }


def test_a_version_is_read_back_as_it_was_pushed(
    registry: Registry, candidate: MakeCandidate, clock: ManualClock
) -> None:
    clock.advance(0.123456)
    wanted = candidate(**full_facts())
    pushed = registry.push(wanted)
    assert registry.get("late", 1) == pushed
    for field in ("model", "signature", "runtime", "format", "trusted_pickle", "compilations", "metrics",
                  "parameters", "lineage", "creator"):  # fmt: skip
        assert getattr(pushed, field) == getattr(wanted, field), field
    assert type(pushed.parameters["rate"]) is float
    assert pushed.number == 1
    assert pushed.created_at == datetime(2013, 1, 1, 0, 0, 0, 123456, tzinfo=UTC)
    assert isinstance(pushed.compiled, Artifact)
    assert pushed.source.filename == "late.onnx"
    assert registry.fetch(pushed, "source").read_bytes() == b"a model"
    assert registry.fetch(pushed).read_bytes() == b"compiled bytes"
    assert registry.fetch(pushed, "golden").read_bytes() == b"golden bytes"


def test_the_source_is_the_executable_where_nothing_was_compiled(
    registry: Registry, candidate: MakeCandidate
) -> None:
    version = registry.push(candidate())
    assert registry.fetch(version).read_bytes() == b"a model"
    for role in ("compiled", "golden"):
        with pytest.raises(NotFound, match=f"late:1 has no {role} file"):
            registry.fetch(version, role)


def test_equal_content_makes_another_version_with_the_same_digest(
    registry: Registry, candidate: MakeCandidate, clock: ManualClock, store: FolderArtifactStore
) -> None:
    first = registry.push(candidate())
    clock.advance(60)
    second = registry.push(candidate(creator="grace"))
    assert (first.number, second.number) == (1, 2)
    assert first.digest == second.digest
    assert len(list(store.list())) == 1


@pytest.mark.parametrize("name", [*full_facts(), "model", "content"])
def test_the_digest_covers_every_fact(registry: Registry, candidate: MakeCandidate, name: str) -> None:
    changed = {**full_facts(), "model": "later", "content": b"another model"}[name]
    assert registry.push(candidate()).digest != registry.push(candidate(**{name: changed})).digest


def test_numbers_are_per_model_and_never_used_again(registry: Registry, candidate: MakeCandidate) -> None:
    assert [registry.push(candidate()).number for _ in range(3)] == [1, 2, 3]
    assert registry.push(candidate(model="other")).number == 1
    registry.delete("late", 3)
    assert registry.push(candidate()).number == 4
    for number in (1, 2, 4):
        registry.delete("late", number)
    assert registry.models() == ("other",)
    assert registry.push(candidate()).number == 5


def test_lists_are_newest_first_and_paged(registry: Registry, candidate: MakeCandidate) -> None:
    pushed = [registry.push(candidate(content, golden=content)) for content in (b"1", b"2", b"3")]
    registry.push(candidate(model="aardvark"))
    assert registry.models() == ("aardvark", "late")
    assert list(registry.versions("late")) == pushed[::-1]
    assert list(registry.versions("late", limit=2)) == pushed[:0:-1]
    assert list(registry.versions("late", before=2)) == pushed[:1]
    assert registry.versions("late", before=-(2**80)) == ()


def test_references_resolve(registry: Registry, candidate: MakeCandidate) -> None:
    for _ in range(3):
        registry.push(candidate())
    assert registry.resolve("late").number == 3
    assert registry.resolve("late:2").number == 2
    registry.move_alias("late", "champion", to=1)
    registry.move_alias("late", "challenger", to=3)
    assert registry.resolve("late").number == 1
    assert registry.resolve("late@champion").number == 1
    assert registry.resolve("late@challenger").number == 3
    assert registry.aliases("late") == {"challenger": 3, "champion": 1}


def test_aliases_of_a_push_move_with_it(registry: Registry, candidate: MakeCandidate) -> None:
    registry.push(candidate(aliases=("champion",)))
    registry.push(candidate(aliases=("champion", "canary")))
    assert registry.aliases("late") == {"canary": 2, "champion": 2}


def test_what_is_not_there_is_named_with_what_is(registry: Registry, candidate: MakeCandidate) -> None:
    with pytest.raises(NotFound, match="no model 'late'") as caught:
        registry.resolve("late")
    assert caught.value.hint == "no model has been pushed yet"
    registry.push(candidate())
    for verb in (registry.resolve, registry.versions, registry.aliases):
        with pytest.raises(NotFound, match="no model 'lat'") as caught:
            verb("lat")
        assert caught.value.hint == "known are late"
    for number in (2, 0, -1, 2**80):
        with pytest.raises(NotFound, match=f"no version late:{number}") as caught:
            registry.get("late", number)
        assert "late:1" in str(caught.value.hint)
    with pytest.raises(NotFound, match="no alias 'champion'") as caught:
        registry.resolve("late@champion")
    assert "penstock model alias late champion 1" in str(caught.value.hint)
    registry.move_alias("late", "canary", to=1)
    with pytest.raises(NotFound, match="no alias 'champion'") as caught:
        registry.delete_alias("late", "champion")
    assert str(caught.value.hint).startswith("its aliases are canary")


def test_a_number_and_an_alias_at_once_are_refused(registry: Registry) -> None:
    with pytest.raises(InvalidInput, match="at once"):
        registry.get("late", 1, alias="champion")


def test_names_are_checked_before_anything_happens(registry: Registry, store: FolderArtifactStore) -> None:
    for verb in (
        lambda: registry.get("Late"),
        lambda: registry.versions("Late"),
        lambda: registry.aliases("Late"),
        lambda: registry.delete("Late", 1),
        lambda: registry.move_alias("Late", "champion", to=1),
        lambda: registry.move_alias("late", "1", to=1),
        lambda: registry.delete_alias("late", "Champion"),
    ):
        with pytest.raises(InvalidInput):
            verb()
    assert not store.root.exists()


def test_an_alias_moves_only_from_where_it_is_expected(registry: Registry, candidate: MakeCandidate) -> None:
    for _ in range(3):
        registry.push(candidate())
    assert registry.move_alias("late", "champion", to=1, expected=None) is None
    assert registry.move_alias("late", "champion", to=2, expected=1) == 1
    for expected in (1, None, 3):
        with pytest.raises(AliasMoved, match="points at version 2; it was expected") as caught:
            registry.move_alias("late", "champion", to=3, expected=expected)
        assert caught.value.standing == 2
        assert isinstance(caught.value, Conflict)
    assert registry.aliases("late") == {"champion": 2}
    with pytest.raises(AliasMoved, match="is not set; it was expected that it points at version 1"):
        registry.move_alias("late", "canary", to=3, expected=1)
    assert registry.move_alias("late", "champion", to=3) == 2
    with pytest.raises(AliasMoved):
        registry.delete_alias("late", "champion", expected=2)
    assert registry.delete_alias("late", "champion", expected=3) == 3
    assert registry.aliases("late") == {}


def test_an_alias_never_points_at_what_is_not_there(registry: Registry, candidate: MakeCandidate) -> None:
    registry.push(candidate())
    with pytest.raises(NotFound, match="no version late:2"):
        registry.move_alias("late", "champion", to=2)
    registry.move_alias("late", "champion", to=1)
    registry.move_alias("late", "canary", to=1)
    with pytest.raises(Conflict, match="canary, champion points at it"):
        registry.delete("late", 1)
    registry.delete_alias("late", "champion")
    registry.delete_alias("late", "canary")
    registry.delete("late", 1)
    with pytest.raises(NotFound):
        registry.delete("late", 1)


def test_a_parent_has_been_a_version(registry: Registry, candidate: MakeCandidate) -> None:
    with pytest.raises(NotFound, match="late:1 has never been"):
        registry.push(candidate(lineage=Lineage(parent=1)))
    assert registry.models() == ()
    registry.push(candidate())
    registry.push(candidate())
    registry.delete("late", 1)
    assert registry.push(candidate(lineage=Lineage(parent=1))).lineage.parent == 1


def test_a_missing_source_makes_no_version(registry: Registry, candidate: MakeCandidate) -> None:
    with pytest.raises(NotFound, match=r"no file /nowhere/m.onnx"):
        registry.push(candidate(source=Path("/nowhere/m.onnx")))
    assert registry.models() == ()


def test_garbage_is_what_no_version_uses(
    registry: Registry, candidate: MakeCandidate, store: FolderArtifactStore, clock: ManualClock
) -> None:
    kept = registry.push(candidate(b"kept", golden=b"shared"))
    dropped = registry.push(candidate(b"dropped", golden=b"shared"))
    orphan = store.put(b"orphan")
    (store.root / ".dead.part").write_bytes(b"12345")
    for path in store.root.iterdir():
        os.utime(path, (clock.now().timestamp(), clock.now().timestamp()))
    registry.delete("late", dropped.number)

    clock.advance(60)
    assert registry.collect_garbage(grace_s=60).freed_bytes == 0, "all of it is within its grace"
    clock.advance(1)
    garbage = registry.collect_garbage(grace_s=60)
    assert garbage.artifacts == tuple(sorted([dropped.source.digest, orphan.digest]))
    assert garbage.unfinished_files == 1
    assert garbage.freed_bytes == len(b"dropped") + len(b"orphan") + 5
    assert registry.fetch(kept).read_bytes() == b"kept"
    assert registry.fetch(kept, "golden").read_bytes() == b"shared"
    assert registry.collect_garbage(grace_s=0).artifacts == ()


def test_what_was_put_again_since_it_was_listed_is_no_garbage(
    registry: Registry, store: FolderArtifactStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    orphan = store.put(b"orphan")
    os.utime(store.root / orphan.digest, (0, 0))
    before = list(store.list())
    store.put(b"orphan")
    monkeypatch.setattr(store, "list", lambda: iter(before))
    assert registry.collect_garbage(grace_s=60).artifacts == ()


class Thief:
    """A garbage collector at the worst moment: it takes an artifact each time the write lock is reached for."""

    def __init__(self, store: FolderArtifactStore, times: int) -> None:
        self.store = store
        self.times = times

    def __call__(self, step: str) -> None:
        if step == "write lock taken" and self.times > 0:
            self.times -= 1
            for stored in list(self.store.list()):
                self.store.delete(stored.digest)


@pytest.mark.parametrize("times", [1, PUSH_ATTEMPTS_MAX - 1, PUSH_ATTEMPTS_MAX])
def test_what_a_collector_took_is_stored_again(
    database_url: str, store: FolderArtifactStore, candidate: MakeCandidate, times: int
) -> None:
    with Registry.open(database_url, store, on_step=Thief(store, times)) as registry:
        version = registry.push(candidate(golden=b"golden"))
        assert version.number == 1
        assert registry.fetch(version).read_bytes() == b"a model"
        assert registry.fetch(version, "golden").read_bytes() == b"golden"


def test_a_file_that_changes_while_it_is_stored_again_makes_no_version(
    database_url: str, store: FolderArtifactStore, candidate: MakeCandidate
) -> None:
    wanted = candidate()
    thief = Thief(store, 1)

    def change(step: str) -> None:
        thief(step)
        wanted.source.write_bytes(b"another model")

    with Registry.open(database_url, store, on_step=change) as registry:
        with pytest.raises(StorageFailed, match="changed while it was pushed"):
            registry.push(wanted)
        assert registry.models() == ()


@pytest.mark.parametrize("step", ["source stored", "write lock taken", "version inserted", "aliases set"])
def test_a_push_that_fails_makes_no_version(
    database_url: str, store: FolderArtifactStore, candidate: MakeCandidate, step: str
) -> None:
    def fail(reached: str) -> None:
        if reached == step:
            raise KeyboardInterrupt

    with Registry.open(database_url, store, on_step=fail) as registry:
        with pytest.raises(KeyboardInterrupt):
            registry.push(candidate(aliases=("champion",)))
        assert registry.models() == ()


def test_damaged_bytes_are_named_with_the_version(registry: Registry, candidate: MakeCandidate) -> None:
    version = registry.push(candidate())
    path = registry.fetch(version)
    path.chmod(0o644)
    path.write_bytes(b"a modem")
    with pytest.raises(CorruptArtifact, match=r"late:1, its executable \(late.onnx\): .* is corrupt") as caught:
        registry.fetch(version)
    assert str(path) in caught.value.message
    path.unlink()
    with pytest.raises(CorruptArtifact, match=r"late:1, .* is missing"):
        registry.fetch(version)
    registry.push(candidate())
    assert registry.fetch(version).read_bytes() == b"a model", "another push of it mends it"


@pytest.mark.parametrize(
    "damage",
    [
        """UPDATE versions SET metrics = '{"auc":0.99}'""",
        "UPDATE versions SET trusted_pickle = 1",
        "UPDATE versions SET signature = 'nonsense'",
        "UPDATE version_artifacts SET digest = replace(digest, substr(digest, 1, 1), 'x')",
        "DELETE FROM version_artifacts",
    ],
)
def test_damaged_rows_are_found(
    registry: Registry, candidate: MakeCandidate, tmp_path: Path, damage: str
) -> None:
    registry.push(candidate(metrics={"auc": 0.5}))
    with closing(sqlite3.connect(tmp_path / "penstock.db")) as connection, connection:
        connection.execute(damage)
    with pytest.raises(CorruptArtifact, match="rows of late:1 do not have their digest") as caught:
        registry.resolve("late")
    assert "restore the database" in str(caught.value.hint)


def test_rows_that_this_code_cannot_read_are_named(
    registry: Registry, candidate: MakeCandidate, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.push(candidate())
    monkeypatch.setattr("penstock.models.registry.rows.RuntimeKind", lambda _: RuntimeKind("from the future"))
    with pytest.raises(CorruptArtifact, match="rows of late:1 cannot be read: 'from the future'"):
        registry.resolve("late")


def test_a_locked_database_is_named(
    database_url: str,
    registry: Registry,
    candidate: MakeCandidate,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr("penstock.models.registry.database.LOCK_WAIT_S_MAX", 0.0)
    impatient = Registry.open(database_url, FolderArtifactStore(tmp_path / "artifacts"))
    registry.push(candidate())
    with closing(sqlite3.connect(tmp_path / "penstock.db", isolation_level=None)) as holder, impatient:
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageFailed, match="no version of late was pushed: database is locked") as caught:
            impatient.push(candidate())
        assert "another process" in str(caught.value.hint)
        assert [version.number for version in impatient.versions("late")] == [1], "reads go on"
        holder.execute("ROLLBACK")
        assert impatient.push(candidate()).number == 2


def test_a_database_that_grows_no_more_refuses_and_keeps_what_it_has(
    registry: Registry, candidate: MakeCandidate, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.push(candidate())
    # SQLite's own limit on pages gives SQLITE_FULL, as a full disk does.
    with registry._database.reading() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
    with pytest.raises(
        StorageFailed, match="no version of late was pushed: database or disk is full"
    ) as caught:
        registry.push(candidate(parameters={"table": "x" * 100_000}))
    assert "free some space" in str(caught.value.hint)
    assert len(registry.versions("late")) == 1


def test_the_time_is_the_clocks(registry: Registry, candidate: MakeCandidate, clock: ManualClock) -> None:
    first = registry.push(candidate())
    clock.advance(90)
    assert registry.push(candidate()).created_at - first.created_at == timedelta(seconds=90)
