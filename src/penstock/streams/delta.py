"""A Delta Lake table, each row in it exactly once.

Rows are gathered and written as a pending Parquet file, as for plain files. Publishing appends the file's rows
to the table, in a Delta transaction that has the partition's name and the file's number as application id and
version (Delta's protocol, "Transaction Identifiers"): a version that the table knows is not appended again.
"""

import io
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from penstock.core.errors import ConfigurationError, StorageFailed
from penstock.streams.outputs import Effect
from penstock.streams.parquet import PENDING, ParquetFile, ParquetSink

__all__ = ["DeltaSink"]


@dataclass(frozen=True, kw_only=True)
class DeltaSink(ParquetSink):
    """The table is in `folder`; rows of a file are one version of it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            import deltalake  # noqa: F401 - is it there?
        except ImportError:
            raise ConfigurationError(
                f"a Delta table in {self.folder} needs deltalake", hint="pip install 'penstock[delta]'"
            ) from None

    def file(self, name: str, content: pl.DataFrame | None) -> Effect:
        return _DeltaFile(self.folder, name, content)


class _DeltaFile(ParquetFile):
    def publish(self) -> None:
        from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
        from deltalake.exceptions import DeltaError, TableNotFoundError

        writer, _, number = Path(self.name).stem.rpartition("-")
        pending = self.folder / PENDING / self.name
        try:
            content = pending.read_bytes()
        except FileNotFoundError:
            return  # it is in the table
        except OSError as error:
            raise StorageFailed(f"{pending}: {error.strerror}") from error
        try:
            try:
                known = DeltaTable(self.folder).transaction_version(writer)
            except TableNotFoundError:
                known = None
            if known is None or known < int(number):
                properties = CommitProperties(app_transactions=[Transaction(writer, int(number))])
                rows = pl.read_parquet(io.BytesIO(content))
                write_deltalake(self.folder, rows, mode="append", commit_properties=properties)
            pending.unlink(missing_ok=True)
        except (DeltaError, OSError) as error:
            raise StorageFailed(f"Delta table {self.folder}: {error}") from error
