"""From a file that a user made to a version that can be pushed: open, describe, compile, prove."""

import hashlib
from pathlib import Path

import msgspec

from penstock.core.errors import InvalidInput
from penstock.core.signature import Signature
from penstock.core.tensors import Tensors
from penstock.models.compilation.compile import compile_to_onnx
from penstock.models.formats import detect_format, open_native
from penstock.models.golden import Golden, golden_rows
from penstock.models.onnx_io import OnnxBinding, open_session
from penstock.models.onnx_signature import onnx_signature
from penstock.models.registry.candidate import Candidate
from penstock.models.samples import read_samples, to_tensors
from penstock.models.version import Lineage, RuntimeKind, SourceFormat

__all__ = ["Provenance", "prepare"]


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """What a user says of a version."""

    creator: str
    metrics: dict[str, float] = {}
    parameters: dict[str, str | int | float | bool] = {}
    lineage: Lineage = Lineage()
    aliases: tuple[str, ...] = ()


def prepare(
    model: str,
    file: Path,
    *,
    samples: Path | None,
    trust_pickle: bool,
    provenance: Provenance,
) -> Candidate:
    """The version that `file` makes, with its ONNX form where one passes the parity gate on the samples.

    Raises `InvalidInput` for a file or samples that cannot be read or do not fit each other, and
    `UntrustedArtifact` for a pickle that was not declared trusted.
    """
    if not file.is_file():
        raise InvalidInput(f"{file}: there is no such file", where=str(file))
    kind = detect_format(file)
    digest = _digest_of(file)  # before it is opened: what is stored has to be what was opened here
    if kind is SourceFormat.ONNX:
        return _prepare_onnx(model, file, digest, samples, provenance)
    rows = read_samples(samples) if samples is not None else None
    native = open_native(file, kind, trust_pickle=trust_pickle, samples=rows)
    tensors = (
        None if rows is None else to_tensors(rows, native.signature, columns=native.predictor.feature_names)
    )
    compiled, compilations = compile_to_onnx(native, tensors)
    golden = None
    if tensors is not None:
        inputs = golden_rows(tensors)
        golden = Golden(inputs, native.run(inputs)).encode()
    return Candidate(
        model=model,
        signature=native.signature,
        runtime=RuntimeKind.NATIVE if compiled is None else RuntimeKind.ONNX,
        format=kind,
        source=file,
        source_digest=digest,
        compiled=compiled,
        golden=golden,
        trusted_pickle=trust_pickle and kind is SourceFormat.PICKLE,
        compilations=compilations,
        creator=provenance.creator,
        metrics=provenance.metrics,
        parameters=provenance.parameters,
        lineage=provenance.lineage,
        aliases=provenance.aliases,
    )


def _digest_of(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _prepare_onnx(
    model: str, file: Path, digest: str, samples: Path | None, provenance: Provenance
) -> Candidate:
    # From memory, as a server opens it: weights in a file beside it are not part of what is stored.
    session = open_session(file.read_bytes(), where=str(file))
    signature = onnx_signature(session, where=str(file))
    golden = None
    if samples is not None:
        inputs = _fixed_rows(golden_rows(to_tensors(read_samples(samples), signature)), signature)
        golden = Golden(inputs, OnnxBinding(session, signature).run(inputs)).encode()
    return Candidate(
        model=model,
        signature=signature,
        runtime=RuntimeKind.ONNX,
        format=SourceFormat.ONNX,
        source=file,
        source_digest=digest,
        golden=golden,
        creator=provenance.creator,
        metrics=provenance.metrics,
        parameters=provenance.parameters,
        lineage=provenance.lineage,
        aliases=provenance.aliases,
    )


def _fixed_rows(tensors: Tensors, signature: Signature) -> Tensors:
    rows = signature.rows_fixed
    return tensors if rows is None else {name: array[:rows] for name, array in tensors.items()}
