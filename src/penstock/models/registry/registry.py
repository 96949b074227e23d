"""The registry: immutable versions of models, and aliases that move over them."""

import enum
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final, Literal, Self

from sqlalchemy import Connection, and_, delete, func, insert, select, update

from penstock.core.clock import Clock, SystemClock
from penstock.core.errors import Conflict, CorruptArtifact, InvalidInput, NotFound
from penstock.models.naming import CHAMPION, NUMBER_MAX, Reference, check_alias, check_model_name
from penstock.models.registry.artifacts import ArtifactStore, OnStep, no_step
from penstock.models.registry.candidate import Candidate, changed, check_candidate
from penstock.models.registry.database import Database
from penstock.models.registry.garbage import Garbage, collect
from penstock.models.registry.rows import Identity, insert_version, select_versions
from penstock.models.registry.schema import bring_to_head
from penstock.models.registry.tables import ALIASES, ARTIFACTS, MODELS, VERSIONS
from penstock.models.version import Artifact, ModelVersion

__all__ = ["ANY_VERSION", "AliasMoved", "AnyVersion", "Registry", "Role"]

Role = Literal["executable", "source", "compiled", "golden"]
"""A file of a version; the executable is the compiled form where there is one, else the source."""

GRACE_S = 3600.0
PUSH_ATTEMPTS_MAX = 3
VERSIONS_LISTED_MAX = 1000
NAMES_SHOWN_MAX = 10


class AnyVersion(enum.Enum):
    """The type of `ANY_VERSION`."""

    ANY_VERSION = "any version"


ANY_VERSION: Final = AnyVersion.ANY_VERSION
"""What an alias is expected to point at when it does not matter."""


class AliasMoved(Conflict):
    """An alias does not point at what was expected; `standing` is the number it points at, None for unset."""

    def __init__(self, message: str, *, standing: int | None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.standing = standing


class Registry:
    """Versions in a database, their bytes in a store. Threads may share one; a forked process opens its own.

    Every verb raises `StorageFailed` where the database or the store refuses, and nothing is half done then.
    """

    def __init__(
        self, database: Database, store: ArtifactStore, *, clock: Clock, on_step: OnStep = no_step
    ) -> None:
        self._database = database
        self._store = store
        self._clock = clock
        self._on_step = on_step

    @classmethod
    def open(
        cls,
        database_url: str,
        store: ArtifactStore,
        *,
        clock: Clock | None = None,
        on_step: OnStep = no_step,
    ) -> "Registry":
        """The registry at `database_url` (`sqlite:///path`), made or migrated where that is needed.

        `on_step` is told of each step of a push. Raises `ConfigurationError` for a URL that cannot be used, a
        file that is no database, and a database newer than this code.
        """
        database = Database.open(database_url)
        try:
            bring_to_head(database)
        except BaseException:
            database.close()
            raise
        return cls(database, store, clock=clock or SystemClock(), on_step=on_step)

    def close(self) -> None:
        """Closes the connections to the database."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def push(self, candidate: Candidate) -> ModelVersion:
        """Makes a new version, whole or not at all, and moves the candidate's aliases to it.

        Its number follows the last one that the model has ever had. Pushing the same content again makes
        another version with the same digest, whose bytes are kept once. Raises `InvalidInput` for names and
        values that cannot be stored, `NotFound` for a missing source file or parent, `StorageFailed`.
        """
        facts = check_candidate(candidate)
        artifacts = self._store_files(candidate)
        for attempt in range(PUSH_ATTEMPTS_MAX):
            with self._database.writing(f"no version of {candidate.model} was pushed") as connection:
                self._on_step("write lock taken")
                missing = [role for role, file in artifacts.items() if not self._store.exists(file.digest)]
                if missing and attempt == PUSH_ATTEMPTS_MAX - 1:
                    # A garbage collector took them each time before; it cannot while the lock is held.
                    self._store_again(candidate, artifacts, missing)
                    missing = []
                if not missing:
                    version = self._insert(connection, candidate, facts, artifacts)
                    break
            self._store_again(candidate, artifacts, missing)
        self._on_step("version committed")
        return version

    def _store_files(self, candidate: Candidate) -> dict[str, Artifact]:
        artifacts = {}
        for role, (content, filename) in candidate.files().items():
            stored = self._store.put(content)
            if role == "source" and candidate.source_digest not in (None, stored.digest):
                raise changed(candidate)
            artifacts[role] = Artifact(digest=stored.digest, size_bytes=stored.size_bytes, filename=filename)
            self._on_step(f"{role} stored")
        return artifacts

    def _store_again(self, candidate: Candidate, artifacts: Mapping[str, Artifact], missing: list[str]) -> None:
        files = candidate.files()
        for role in missing:
            if self._store.put(files[role][0]).digest != artifacts[role].digest:
                raise changed(candidate)

    def _insert(
        self,
        connection: Connection,
        candidate: Candidate,
        facts: Mapping[str, str | bool],
        artifacts: Mapping[str, Artifact],
    ) -> ModelVersion:
        identity = Identity(
            model=candidate.model,
            number=_next_number(connection, candidate),
            creator=candidate.creator,
            created_at=self._clock.now(),
        )
        version = insert_version(connection, identity, facts, artifacts)
        self._on_step("version inserted")
        for alias in candidate.aliases:
            _set_alias(connection, candidate.model, alias, identity.number)
        self._on_step("aliases set")
        return version

    def get(self, model: str, number: int | None = None, *, alias: str | None = None) -> ModelVersion:
        """The version under a number or an alias; with neither, what the model serves.

        That is the version under the alias `champion` where it is set, else the newest. Raises `NotFound`,
        naming what there is instead, `InvalidInput` for a number and an alias at once, `CorruptArtifact` for
        damaged rows.
        """
        if number is not None and alias is not None:
            raise InvalidInput(f"{model}: a number and an alias at once", where="version", hint="give one")
        check_model_name(model)
        with self._database.reading() as connection:
            wanted = _find_number(connection, Reference(model=model, number=number, alias=alias))
            condition = and_(VERSIONS.c.model == model, VERSIONS.c.number == wanted)
            (version,) = select_versions(connection, condition, limit=1)
        return version

    def resolve(self, reference: str) -> ModelVersion:
        """The version that a reference names: `late:3` by number, `late@champion` by alias, or `late`.

        The model's name alone means its alias `champion` where that is set, else its newest version. Raises
        `InvalidInput` for another notation, and as `get`.
        """
        wanted = Reference.parse(reference)
        return self.get(wanted.model, wanted.number, alias=wanted.alias)

    def models(self) -> tuple[str, ...]:
        """The names of all models that have a version, sorted."""
        with self._database.reading() as connection:
            return _models(connection)

    def versions(
        self, model: str, *, before: int = NUMBER_MAX, limit: int = VERSIONS_LISTED_MAX
    ) -> tuple[ModelVersion, ...]:
        """The model's versions with numbers below `before`, newest first, at most `limit`.

        Raises `NotFound` for a model without versions, `CorruptArtifact` for damaged rows.
        """
        check_model_name(model)
        assert limit > 0, "a page has room for a version"
        with self._database.reading() as connection:
            _newest(connection, model)
            condition = and_(VERSIONS.c.model == model, VERSIONS.c.number < min(max(before, 1), NUMBER_MAX))
            return select_versions(connection, condition, limit=limit)

    def aliases(self, model: str) -> dict[str, int]:
        """The model's aliases with the numbers they point at, sorted.

        Raises `NotFound` for an unknown model.
        """
        check_model_name(model)
        with self._database.reading() as connection:
            _newest(connection, model)
            return _aliases(connection, model)

    def move_alias(
        self, model: str, alias: str, *, to: int, expected: int | AnyVersion | None = ANY_VERSION
    ) -> int | None:
        """Points the alias at version `to` if it stands at `expected` (None: if it is unset).

        Gives the number that it pointed at before. Raises `AliasMoved`, a `Conflict`, with what stands now,
        `NotFound` for an unknown model or version, `InvalidInput` for a name that is no alias.
        """
        check_model_name(model)
        check_alias(alias)
        with self._database.writing(f"{model}@{alias} was not moved") as connection:
            _find_number(connection, Reference(model=model, number=to))
            standing = _check_standing(connection, model, alias, expected)
            _set_alias(connection, model, alias, to)
        return standing

    def delete_alias(self, model: str, alias: str, *, expected: int | AnyVersion = ANY_VERSION) -> int:
        """Unsets the alias if it stands at `expected`; gives the number that it pointed at.

        Raises `AliasMoved`, `NotFound` for an unknown model or an alias that is not set.
        """
        check_model_name(model)
        check_alias(alias)
        with self._database.writing(f"{model}@{alias} was not deleted") as connection:
            number = _find_number(connection, Reference(model=model, alias=alias))
            _check_standing(connection, model, alias, expected)
            connection.execute(delete(ALIASES).where(ALIASES.c.model == model, ALIASES.c.alias == alias))
        return number

    def delete(self, model: str, number: int) -> None:
        """Forgets a version; its number is not used again, its bytes go with the next garbage collection.

        Raises `Conflict` while aliases point at it, `NotFound`.
        """
        check_model_name(model)
        with self._database.writing(f"{model}:{number} was not deleted") as connection:
            _find_number(connection, Reference(model=model, number=number))
            pointing = [alias for alias, to in _aliases(connection, model).items() if to == number]
            if pointing:
                raise Conflict(
                    f"{model}:{number} cannot be deleted: {', '.join(pointing)} points at it",
                    hint="move or delete the alias first",
                )
            for table in (ARTIFACTS, VERSIONS):
                connection.execute(delete(table).where(table.c.model == model, table.c.number == number))

    def fetch(self, version: ModelVersion, role: Role = "executable") -> Path:
        """A local file of the version, its digest checked; the caller must not change it.

        Raises `NotFound` where the version has no such file, `CorruptArtifact` where its bytes are missing
        or not those that were pushed.
        """
        artifact: Artifact | None = getattr(version, role)
        place = f"{version.model}:{version.number}"
        if artifact is None:
            raise NotFound(f"{place} has no {role} file", hint="it was pushed without one")
        try:
            return self._store.fetch(artifact.digest)
        except CorruptArtifact as error:
            raise CorruptArtifact(
                f"{place}, its {role} ({artifact.filename}): {error.message}", hint=error.hint
            ) from error

    def collect_garbage(self, grace_s: float = GRACE_S) -> Garbage:
        """Removes what no version uses and nobody has put for `grace_s` seconds, and unfinished files.

        The grace is for pushes under way: without it they are still safe, but store their files again.
        """
        assert grace_s >= 0, "a grace is a duration"
        return collect(self._database, self._store, before=self._clock.now() - timedelta(seconds=grace_s))


def _next_number(connection: Connection, candidate: Candidate) -> int:
    model, parent = candidate.model, candidate.lineage.parent
    last = connection.scalar(select(MODELS.c.last_number).where(MODELS.c.name == model))
    if parent is not None and not 1 <= parent <= (last or 0):
        raise NotFound(
            f"the parent {model}:{parent} has never been a version", hint="name a version of the same model"
        )
    number = (last or 0) + 1
    if last is None:
        connection.execute(insert(MODELS).values(name=model, last_number=number))
    else:
        connection.execute(update(MODELS).where(MODELS.c.name == model).values(last_number=number))
    return number


def _models(connection: Connection) -> tuple[str, ...]:
    return tuple(connection.scalars(select(VERSIONS.c.model).distinct().order_by(VERSIONS.c.model)))


def _aliases(connection: Connection, model: str) -> dict[str, int]:
    rows = connection.execute(
        select(ALIASES.c.alias, ALIASES.c.number).where(ALIASES.c.model == model).order_by(ALIASES.c.alias)
    )
    return {row.alias: row.number for row in rows}


def _alias(connection: Connection, model: str, alias: str) -> int | None:
    return connection.scalar(select(ALIASES.c.number).where(ALIASES.c.model == model, ALIASES.c.alias == alias))


def _set_alias(connection: Connection, model: str, alias: str, number: int) -> None:
    key = and_(ALIASES.c.model == model, ALIASES.c.alias == alias)
    if connection.execute(update(ALIASES).where(key).values(number=number)).rowcount == 0:
        connection.execute(insert(ALIASES).values(model=model, alias=alias, number=number))


def _check_standing(
    connection: Connection, model: str, alias: str, expected: int | AnyVersion | None
) -> int | None:
    standing = _alias(connection, model, alias)
    if expected not in (ANY_VERSION, standing):
        raise AliasMoved(
            f"{model}@{alias} {_points(standing)}; it was expected that it {_points(expected)}",
            standing=standing,
            hint="look at what it is now, and decide again",
        )
    return standing


def _points(number: int | AnyVersion | None) -> str:
    return "is not set" if number is None else f"points at version {number}"


def _newest(connection: Connection, model: str) -> int:
    newest: int | None = connection.scalar(select(func.max(VERSIONS.c.number)).where(VERSIONS.c.model == model))
    if newest is None:
        known = _models(connection)
        raise NotFound(
            f"there is no model {model!r}",
            hint=f"known are {_listed(known)}" if known else "no model has been pushed yet",
        )
    return newest


def _find_number(connection: Connection, wanted: Reference) -> int:
    """The number of the version that is wanted, which exists. Raises `NotFound`."""
    newest = _newest(connection, wanted.model)
    if wanted.number is not None:
        return _require_version(connection, wanted, wanted.number, newest)
    found = _alias(connection, wanted.model, wanted.alias or CHAMPION)
    if found is None and wanted.alias is not None:
        known = _listed(tuple(_aliases(connection, wanted.model)))
        raise NotFound(
            f"{wanted.model} has no alias {wanted.alias!r}",
            hint=(f"its aliases are {known}" if known else "it has none")
            + f"; to set it: penstock model alias {wanted.model} {wanted.alias} {newest}",
        )
    return newest if found is None else found


def _require_version(connection: Connection, wanted: Reference, number: int, newest: int) -> int:
    key = and_(VERSIONS.c.model == wanted.model, VERSIONS.c.number == number)
    # A number past what the column holds is refused by the driver rather than not found.
    if not 1 <= number <= NUMBER_MAX or connection.scalar(select(VERSIONS.c.number).where(key)) is None:
        raise NotFound(
            f"there is no version {wanted.describe()}", hint=f"its newest version is {wanted.model}:{newest}"
        )
    return number


def _listed(names: tuple[str, ...]) -> str:
    more = len(names) - NAMES_SHOWN_MAX
    return ", ".join(names[:NAMES_SHOWN_MAX]) + (f" and {more} more" if more > 0 else "")
