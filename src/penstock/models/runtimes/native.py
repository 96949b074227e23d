"""The library that a model was made with, as a worker process loads it."""

from pathlib import Path
from typing import Any

import msgspec

from penstock.core.signature import Signature
from penstock.models.formats import open_native
from penstock.models.native import NativeModel
from penstock.models.runtimes.process import WorkerCommand
from penstock.models.version import ModelVersion, SourceFormat

__all__ = ["load_native", "native_command"]


def native_command(
    version: ModelVersion, path: Path, *, threads: int, start_timeout_s: float, niceness: int = 0
) -> WorkerCommand:
    """How a worker loads `version` from its source file. Each start checks the file's digest anew."""
    arguments = {
        "path": str(path),
        "digest": version.executable.digest,
        "kind": version.format.value,
        "trust_pickle": version.trusted_pickle,
        "signature": msgspec.to_builtins(version.signature),
    }
    return WorkerCommand(
        model=version.model,
        loader="penstock.models.runtimes.native:load_native",
        arguments=arguments,
        threads=threads,
        start_timeout_s=start_timeout_s,
        niceness=niceness,
    )


def load_native(
    *, path: str, digest: str, kind: str, trust_pickle: bool, signature: dict[str, Any]
) -> NativeModel:
    """In the worker: the model. Raises what `open_native` raises."""
    return open_native(
        Path(path),
        SourceFormat(kind),
        trust_pickle=trust_pickle,
        signature=msgspec.convert(signature, Signature),
        digest=digest,
    )
