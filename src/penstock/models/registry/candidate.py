"""What is pushed, checked and put into the canonical form that a version's digest covers."""

import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import numpy as np

from penstock.core.errors import InvalidInput, StorageFailed, TooLarge
from penstock.core.signature import Signature
from penstock.models.naming import check_alias, check_model_name
from penstock.models.version import Compilation, Lineage, RuntimeKind, SourceFormat

__all__ = ["Candidate", "changed", "check_candidate"]

FACTS_BYTES_MAX = 4 * 1024 * 1024
CREATOR_LENGTH_MAX = 256


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A version that is not pushed yet: all that is immutable of it, and the aliases it is to get.

    `source` is the file to push, `source_digest` the SHA-256 that it had when the rest was made from it,
    `compiled` its ONNX form and `golden` its sample inputs and outputs where there are such. `aliases` are
    moved to the new version in the transaction that makes it, whatever they stood at.
    """

    model: str
    signature: Signature
    runtime: RuntimeKind
    format: SourceFormat
    source: Path
    creator: str
    source_digest: str | None = None
    compiled: bytes | None = None
    golden: bytes | None = None
    trusted_pickle: bool = False
    compilations: tuple[Compilation, ...] = ()
    metrics: Mapping[str, float] = {}
    parameters: Mapping[str, str | int | float | bool] = {}
    lineage: Lineage = Lineage()
    aliases: tuple[str, ...] = ()

    def files(self) -> dict[str, tuple[Path | bytes, str]]:
        """The files by role, each with the name that it is given when pulled."""
        files: dict[str, tuple[Path | bytes, str]] = {"source": (self.source, _file_name(self.source))}
        if self.compiled is not None:
            files["compiled"] = (self.compiled, "model.onnx")
        if self.golden is not None:
            files["golden"] = (self.golden, "golden.msgpack")
        return files


def check_candidate(candidate: Candidate) -> dict[str, str | bool]:
    """The facts of the candidate as they are stored, by column.

    Raises `InvalidInput`, naming the field, for a name, a number or a value that cannot be stored, and
    `TooLarge` past 4 MiB of facts.
    """
    check_model_name(candidate.model)
    for alias in candidate.aliases:
        check_alias(alias)
    _check_creator(candidate.creator)
    values: dict[str, object] = {
        "signature": candidate.signature,
        "compilations": candidate.compilations,
        "metrics": {name: _metric(name, value) for name, value in candidate.metrics.items()},
        "parameters": {name: _parameter(name, value) for name, value in candidate.parameters.items()},
        "lineage": candidate.lineage,
    }
    encoded = {field: _encode(field, value) for field, value in values.items()}
    size_bytes = sum(len(text) for text in encoded.values())
    if size_bytes > FACTS_BYTES_MAX:
        raise TooLarge(
            f"{candidate.model}: signature, metrics and parameters take {size_bytes} bytes of at most "
            f"{FACTS_BYTES_MAX}",
            where="parameters",
            hint="keep large tables in the model's file and refer to them",
        )
    return {
        **encoded,
        "runtime": candidate.runtime.value,
        "format": candidate.format.value,
        "trusted_pickle": candidate.trusted_pickle,
    }


def _file_name(source: Path) -> str:
    """A name that any folder and any database takes: a file's own may be any bytes and lead elsewhere."""
    name = os.fsencode(source.name).decode("utf-8", "replace").replace("\\", "_").replace("\0", "_")
    return "model" if name in {"", ".", ".."} else name


def changed(candidate: Candidate) -> StorageFailed:
    """The error for a source that is not what it was when the push began."""
    return StorageFailed(
        f"{candidate.source} changed while it was pushed; no version was made",
        hint="push again when nothing writes to the file any more",
    )


def _check_creator(creator: str) -> None:
    if not creator or len(creator) > CREATOR_LENGTH_MAX or not creator.isprintable():
        raise InvalidInput(
            f"creator {creator[:80]!r} is not 1 to {CREATOR_LENGTH_MAX} printable characters",
            where="creator",
            hint="name who or what pushes, e.g. a user name",
        )


def _metric(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise InvalidInput(f"metric {name!r} is {value!r}, not a number", where=f"metrics.{name}")
    return float(value)


def _parameter(name: str, value: object) -> str | int | float | bool:
    plain = value.item() if isinstance(value, np.generic) else value
    if not isinstance(plain, str | int | float | bool):
        raise InvalidInput(
            f"parameter {name!r} is {type(value).__name__}, not a string, number or truth value",
            where=f"parameters.{name}",
            hint="write it as a string",
        )
    # A subclass (numpy.float64 is one of float) would not be encoded as what it is.
    for kind in (bool, int, float, str):
        if isinstance(plain, kind):
            return kind(plain)
    raise AssertionError("one of the kinds above")


def _encode(field: str, value: object) -> str:
    try:
        plain = msgspec.to_builtins(value)
        for place, number in _floats(field, plain):
            # JSON has no place for them: they would come back as null.
            if not math.isfinite(number):
                raise InvalidInput(
                    f"{place} is {number}", where=place, hint="leave out what has no finite value"
                )
        return msgspec.json.encode(plain, order="deterministic").decode()
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInput(f"{field} cannot be stored: {error}", where=field) from error


def _floats(place: str, value: object) -> Iterator[tuple[str, float]]:
    if isinstance(value, float):
        yield place, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _floats(f"{place}.{key}", inner)
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _floats(f"{place}[{index}]", inner)
