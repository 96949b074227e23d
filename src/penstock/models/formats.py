"""Kinds of files that models come in: told apart by their first bytes, opened by their own libraries."""

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from penstock.core.errors import CorruptArtifact, InvalidInput, PenstockError, UntrustedArtifact
from penstock.core.signature import Signature
from penstock.models.libraries.lightgbm_text import check_lightgbm_text
from penstock.models.libraries.wrap import wrap_model
from penstock.models.native import NativeModel
from penstock.models.onnx_io import short_reason
from penstock.models.samples import Samples
from penstock.models.signature_inference import infer_signature
from penstock.models.version import SourceFormat

__all__ = ["detect_format", "open_native", "read_verified"]

HEAD_BYTES = 256
_CORRUPT_HINT = "restore the file from a backup, or push the model again and move its aliases"
_PICKLE_SUFFIXES = frozenset({".joblib", ".pickle", ".pkl"})
_COMPRESSION_SUFFIXES = frozenset({".bz2", ".gz", ".lz4", ".lzma", ".xz", ".z"})
_COMPRESSED = (
    b"\x1f\x8b",
    b"BZh",
    b"\x28\xb5\x2f\xfd",
    b"\x04\x22\x4d\x18",
    b"\xfd7zXZ",
    b"x\x01",
    b"x^",
    b"x\x9c",
    b"x\xda",
)


def detect_format(path: Path) -> SourceFormat:
    """What kind of model file it is. What it holds decides, its suffix where that does not tell.

    Raises `InvalidInput` for a missing or empty file and for an unknown kind.
    """
    if not path.is_file():
        raise InvalidInput(f"{path}: there is no such file", where=str(path))
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if not head:
        raise InvalidInput(f"{path} is empty", where=str(path))
    detected = _by_content(head) or _by_suffix(path)
    if detected is None:
        raise InvalidInput(
            f"{path} is not a model file of a known kind",
            where=str(path),
            hint="push .onnx, XGBoost's .json or .ubj, LightGBM's .txt, or .joblib or .pkl with --trust-pickle",
        )
    return detected


def _by_content(head: bytes) -> SourceFormat | None:
    # Pickles come first: whatever a file is called, what would be unpickled has to be trusted.
    if head[:1] == b"\x80" or head.startswith(_COMPRESSED):
        return SourceFormat.PICKLE
    if head.startswith((b"tree\n", b"tree\r\n")):
        return SourceFormat.LIGHTGBM
    if head.lstrip().startswith(b"{") and b"learner" in head:
        return SourceFormat.XGBOOST
    return None


def _by_suffix(path: Path) -> SourceFormat | None:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in _COMPRESSION_SUFFIXES:
        suffixes.pop()
    suffix = suffixes[-1] if suffixes else ""
    if suffix in _PICKLE_SUFFIXES:
        return SourceFormat.PICKLE
    return {".onnx": SourceFormat.ONNX, ".ubj": SourceFormat.XGBOOST}.get(suffix)


def read_verified(path: Path, digest: str) -> bytes:
    """All of a file, read once: what was checked is what will be opened, whoever writes to it meanwhile.

    Raises `CorruptArtifact` where its SHA-256 is not `digest`, or where it cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CorruptArtifact(f"{path} cannot be read: {error.strerror}", hint=_CORRUPT_HINT) from error
    found = hashlib.sha256(content).hexdigest()
    if found != digest:
        raise CorruptArtifact(
            f"{path} is not the file that was pushed: its SHA-256 is {found}, not {digest}",
            hint=_CORRUPT_HINT,
        )
    return content


def open_native(
    path: Path,
    kind: SourceFormat,
    *,
    trust_pickle: bool,
    signature: Signature | None = None,
    samples: "Samples | None" = None,
    digest: str | None = None,
) -> NativeModel:
    """The model in a file under `signature` or the inferred one. The file is read once; `digest`, where it is
    given, is the SHA-256 that it must have.

    Raises `UntrustedArtifact` for a pickle without `trust_pickle` and `CorruptArtifact` for another digest,
    before a byte of it is parsed, and `InvalidInput` for a file that is damaged, holds no model, or needs a
    library that is not installed.
    """
    if kind is SourceFormat.PICKLE and not trust_pickle:
        raise UntrustedArtifact(
            f"{path} is a pickle: opening it runs whatever code is in it",
            where=str(path),
            hint="if you made it or trust who did, say --trust-pickle; ONNX needs no trust",
        )
    assert kind in _OPENERS, "ONNX is not opened natively: see penstock.models.onnx_signature"
    if digest is not None:
        content = read_verified(path, digest)
    elif path.is_file():
        content = path.read_bytes()
    else:
        raise InvalidInput(f"{path}: there is no such file", where=str(path))
    predictor = wrap_model(_open_guarded(content, path, kind), where=str(path))
    return NativeModel(predictor, signature if signature is not None else infer_signature(predictor, samples))


def _open_guarded(content: bytes, path: Path, kind: SourceFormat) -> Any:
    try:
        return _OPENERS[kind](content)
    except PenstockError:
        raise
    except ModuleNotFoundError as error:
        raise InvalidInput(
            f"{path} needs the library {error.name!r}, which is not installed here",
            where=str(path),
            hint=f"pip install {_DISTRIBUTIONS.get((error.name or '').partition('.')[0], error.name)}",
        ) from error
    except (AttributeError, ImportError) as error:
        raise InvalidInput(
            f"{path} needs code that is not here: {short_reason(error)}",
            where=str(path),
            hint="install the versions of the libraries, and the modules, that it was saved with",
        ) from error
    except Exception as error:
        # Unpickling damaged bytes raises nearly anything; the libraries raise errors of their own.
        raise InvalidInput(
            f"{path} cannot be opened as a {kind.value} model: {type(error).__name__}: {short_reason(error)}",
            where=str(path),
            hint="it may be truncated or of another version; save it again",
        ) from error


def _open_pickle(content: bytes) -> Any:
    import joblib

    return joblib.load(io.BytesIO(content))


def _open_xgboost(content: bytes) -> Any:
    import xgboost

    booster = xgboost.Booster()
    # From memory: by path XGBoost judges by the suffix, which stored artifacts do not have.
    booster.load_model(bytearray(content))
    return booster


def _open_lightgbm(content: bytes) -> Any:
    import lightgbm

    text = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8").read()
    check_lightgbm_text(text)
    return lightgbm.Booster(model_str=text)


_OPENERS: dict[SourceFormat, Callable[[bytes], Any]] = {
    SourceFormat.PICKLE: _open_pickle,
    SourceFormat.XGBOOST: _open_xgboost,
    SourceFormat.LIGHTGBM: _open_lightgbm,
}
_DISTRIBUTIONS = {"sklearn": "scikit-learn", "xgboost": "xgboost-cpu", "joblib": "joblib"}
