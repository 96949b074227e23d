"""Sample rows in numpy's own files: one array of rows, from .npy or .npz."""

from pathlib import Path
from typing import Any

import numpy as np

from penstock.core.errors import InvalidInput, shown
from penstock.core.tensors import Array

__all__ = ["read_npy", "read_npz"]

_MAGIC = {".npy": (b"\x93NUMPY", "numpy.save"), ".npz": (b"PK", "numpy.savez")}


def read_npy(path: Path) -> Array:
    """Raises `InvalidInput` for what `numpy.save` has not written, and for what is no array of rows."""
    _check_kind(path)
    return _rows_of(np.load(path, allow_pickle=False), "its array", path)


def read_npz(path: Path) -> Array:
    """Raises `InvalidInput` for what `numpy.savez` has not written, and unless it is one array of rows."""
    _check_kind(path)
    with np.load(path, allow_pickle=False) as archive:
        if len(archive.files) == 1:
            return _rows_of(archive[archive.files[0]], f"its array {shown(archive.files[0])}", path)
        raise InvalidInput(
            f"{path} holds {len(archive.files)} arrays ({_listed(archive.files)}), and which are the rows is "
            "not known",
            where=str(path),
            hint="save the one of shape [rows, features] alone: numpy.savez(FILE, x=rows); columns with names "
            "come from .parquet or .csv",
        )


def _check_kind(path: Path) -> None:
    """Numpy takes anything else for a pickle, and says that it could be loaded with less care."""
    magic, writer = _MAGIC[path.suffix.lower()]
    with path.open("rb") as stream:
        found = stream.read(len(magic))
    if found != magic:
        raise InvalidInput(
            f"{path} cannot be read as {path.suffix}: {writer} has not written it",
            where=str(path),
            hint="it may be truncated or of another kind",
        )


def _rows_of(array: Any, which: str, path: Path) -> Array:
    if not isinstance(array, np.ndarray) or array.ndim < 2:
        shape = list(getattr(array, "shape", ()))
        raise InvalidInput(
            f"{path} holds no array of rows: {which} has shape {shape}",
            where=str(path),
            hint="give an array [rows, features]; x.reshape(-1, 1) makes one of a single feature",
        )
    return array


def _listed(names: list[str]) -> str:
    return ", ".join(map(shown, names[:5])) + (", …" if len(names) > 5 else "")
