"""The files of a Delta table: those of the version at the start, then what each newer version adds."""

import json
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import polars as pl

from penstock.core.errors import InvalidInput
from penstock.streams.deltas import delta_errors, deltalake
from penstock.streams.feeds.files import SourceFile

if TYPE_CHECKING:
    from deltalake import DeltaTable

__all__ = ["DeltaFiles"]

BEYOND = ("deletionVectors", "columnMapping")
"""Features of tables by which rows are not simply what is in their files."""
PARTITION = "partition."


class DeltaFiles:
    """Within a version, files are in the order of their paths. Rows may only ever be added."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: tuple[int, bool] | None = None
        self._files: list[SourceFile] = []

    def same(self, at: dict[str, object]) -> SourceFile:
        for file in self._of(int(str(at["version"])), whole=bool(at["whole"])):
            if file.at == at:
                if not file.path.exists():
                    raise InvalidInput(
                        f"{file.path} is gone, and was not read whole",
                        hint="a vacuum took it; bring it back, or let a stream of another name begin anew",
                    )
                return file
        raise InvalidInput(f"version {at['version']} of table {self._folder} has no file {at['file']} any more")

    def after(self, at: dict[str, object] | None) -> SourceFile | None:
        if at is None:
            version = self._table().version()
            found = self._of(version, whole=True)
            return found[0] if found else None
        version = int(str(at["version"]))
        for file in self._of(version, whole=bool(at["whole"])):
            if str(file.at["file"]) > str(at["file"]):
                return file
        newest = self._table().version()
        while version < newest:
            version += 1
            found = self._of(version, whole=False)
            if found:
                return found[0]
        return None

    def _of(self, version: int, *, whole: bool) -> list[SourceFile]:
        """The files of a version, or those that it added."""
        if self._known != (version, whole):
            added = None if whole else self._added(version)
            self._files = self._list(version, added, whole=whole) if whole or added else []
            self._known = (version, whole)
        return self._files

    def _list(self, version: int, added: set[str] | None, *, whole: bool) -> list[SourceFile]:
        table = self._table(version)
        beyond = set(table.protocol().reader_features or ()) & set(BEYOND)
        if beyond:
            raise InvalidInput(
                f"table {self._folder} has {', '.join(sorted(beyond))}, which a stream cannot be fed from",
                hint="rewrite the table without it",
            )
        with delta_errors(f"version {version} of table {self._folder} cannot be read"):
            actions = pl.DataFrame(table.get_add_actions(flatten=True))
        files = [
            SourceFile(
                at={"version": version, "whole": whole, "file": row["path"]},
                path=self._folder / unquote(row["path"]),
                constants={
                    name.removeprefix(PARTITION): value
                    for name, value in row.items()
                    if name.startswith(PARTITION)
                },
            )
            for row in actions.iter_rows(named=True)
        ]
        files = [file for file in files if added is None or file.path.name in added]
        return sorted(files, key=lambda file: str(file.at["file"]))

    def _added(self, version: int) -> set[str]:
        """The names of the files that a version added rows in."""
        path = self._folder / "_delta_log" / f"{version:020}.json"
        try:
            actions = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
        except OSError as error:
            raise InvalidInput(
                f"version {version} of table {self._folder} is gone from its log, and was not read",
                hint="a stream of another name begins anew with the newest version",
            ) from error
        if any(action["remove"].get("dataChange", True) for action in actions if "remove" in action):
            raise InvalidInput(
                f"version {version} of table {self._folder} takes rows away or changes them",
                hint="a stream is fed by rows that are added; one of another name begins anew",
            )
        return {
            Path(unquote(action["add"]["path"])).name
            for action in actions
            if "add" in action and action["add"].get("dataChange", True)
        }

    def _table(self, version: int | None = None) -> "DeltaTable":
        lib = deltalake()
        with delta_errors(f"table {self._folder} cannot be read"):
            table: DeltaTable = lib.DeltaTable(str(self._folder), version=version)
            return table
