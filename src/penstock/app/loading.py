"""Reads an app file: imports it and finds its `App`."""

import hashlib
import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType

import numpy as np

from penstock.app.declarations import App
from penstock.app.model_declarations import CallableDeclaration
from penstock.app.unset_variable import UnsetVariable
from penstock.core.errors import ConfigurationError, InvalidInput, ModelFailed, PenstockError
from penstock.core.signature import Signature
from penstock.core.tensors import Array, DataType, Tensors

__all__ = ["CallableModel", "file_version", "load_app", "load_callable"]

MODULE_NAME = "penstock_app"
VERSION_DIGITS = 12


def load_app(reference: str) -> tuple[App, Path]:
    """The `App` in an app file, and the file. `reference` is a path, or `path:name` where there are several.

    Raises `ConfigurationError` when the file is missing, raises, or has no app (or several) in it.
    """
    path, name = _split(reference)
    apps = {found: value for found, value in vars(_import(path)).items() if isinstance(value, App)}
    if name is not None:
        if name not in apps:
            raise ConfigurationError(f"{path} has no App named {name!r}", hint=f"it has {_listed(apps)}")
        apps[name].check()
        return apps[name], path
    if len(apps) != 1:
        raise ConfigurationError(
            f"{path} has {len(apps)} Apps: {_listed(apps)}" if apps else f"{path} has no App in it",
            hint=f"name one: {path}:{next(iter(apps))}" if apps else 'write `app = penstock.App("name")`',
        )
    (app,) = apps.values()
    app.check()
    return app, path


def file_version(path: Path) -> str:
    """A name for what an app file's callables do now: the beginning of its digest."""
    return _version_of(path.read_bytes())


def _version_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:VERSION_DIGITS]


class CallableModel:
    """A declared callable as a worker runs it."""

    def __init__(self, declared: CallableDeclaration) -> None:
        self.signature: Signature = declared.signature
        self._name = declared.name
        self._target = declared.target() if isinstance(declared.target, type) else declared.target
        if not callable(self._target):
            raise ModelFailed(
                f"model {declared.name!r}: instances of {type(self._target).__name__} cannot be called",
                hint="give the class a method __call__(self, inputs)",
            )

    def run(self, tensors: Tensors) -> Tensors:
        """Calls it and holds what it returns against the signature. Raises `ModelFailed` where it differs."""
        outputs = self._target(tensors)
        if not isinstance(outputs, dict):
            raise ModelFailed(f"model {self._name!r} returned {type(outputs).__name__}, not a dict of outputs")
        try:
            as_inputs = Signature(inputs=self.signature.outputs, outputs=self.signature.outputs)
            return as_inputs.conform(_cast(outputs, self.signature))
        except (InvalidInput, TypeError, ValueError) as error:
            said = str(error).replace("inputs do", "its outputs do").replace("input ", "output ")
            raise ModelFailed(f"model {self._name!r} answered against its signature: {said}") from None


def load_callable(*, file: str, app: str, model: str, version: str) -> CallableModel:
    """What a worker process calls to get the callable `model` of an app file.

    Raises `ConfigurationError` where the file is not the one that had `version` (see `file_version`): what
    is served under a version does not change while the server runs.
    """
    module = _import(Path(file), version)
    for value in vars(module).values():
        if isinstance(value, App) and value.name == app:
            for declared in value.declarations:
                if isinstance(declared, CallableDeclaration) and declared.name == model:
                    return _made(declared)
    raise ConfigurationError(f"{file} declares no callable model {model!r} any more")


def _made(declared: CallableDeclaration) -> CallableModel:
    try:
        return CallableModel(declared)
    except KeyError as error:
        unset = UnsetVariable.behind(error)
        if unset is None:
            raise
        raise unset.error(f"model {declared.name!r}") from error


def _cast(outputs: dict[str, object], signature: Signature) -> Tensors:
    """Outputs in the declared element types: numpy computes in FP64 and INT64 unless told otherwise."""
    types = {spec.name: spec.datatype for spec in signature.outputs}
    return {
        name: _cast_one(name, value, types[name]) if name in types else np.asarray(value)
        for name, value in outputs.items()
    }


def _cast_one(name: str, value: object, datatype: DataType) -> Array:
    try:
        array: Array = np.asarray(value).astype(datatype.numpy, casting="same_kind", copy=False)
    except (TypeError, ValueError) as error:
        raise TypeError(f"output {name!r}: {error}") from None
    if datatype.is_object:
        # Arrays of objects take anything.
        element = str if datatype is DataType.STRING else bytes
        for found in array.ravel().tolist():
            if not isinstance(found, element):
                raise TypeError(f"output {name!r}: {found!r} is not of type {element.__name__}")
    return array


def _split(reference: str) -> tuple[Path, str | None]:
    path, colon, name = reference.rpartition(":")
    if colon and name.isidentifier() and not Path(reference).exists():
        return Path(path), name
    return Path(reference), None


def _import(path: Path, version: str | None = None) -> ModuleType:
    if not path.is_file():
        raise ConfigurationError(f"app file {path}: no such file", hint="name a Python file with an App in it")
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location(MODULE_NAME, path)
    if spec is None or spec.loader is None:
        raise ConfigurationError(f"app file {path} is not a Python file", hint="its name has to end in .py")
    content = path.read_bytes()
    if version is not None and _version_of(content) != version:
        raise ConfigurationError(
            f"app file {path} changed since the server started, at version {version}",
            hint="restart the server to serve what is in it now",
        )
    module = importlib.util.module_from_spec(spec)
    sys.modules[MODULE_NAME] = module
    try:
        # Not by the loader, which would read the file again, or a .pyc of what was in it a moment ago.
        exec(compile(content, str(path), "exec", dont_inherit=True), module.__dict__)  # noqa: S102
    except (Exception, SystemExit) as error:
        unset = UnsetVariable.behind(error)
        if unset is not None:
            raise unset.error(f"app file {path}") from error
        raise ConfigurationError(
            f"app file {path} raised at {_place(error, path)}: {_said(error)}",
            hint=error.hint if isinstance(error, PenstockError) else None,
        ) from error
    return module


def _place(error: BaseException, path: Path) -> str:
    """The line of the app file from which it came; of another file where that one cannot be parsed."""
    if isinstance(error, SyntaxError):
        line = f"line {error.lineno}"
        elsewhere = error.filename is not None and error.filename != str(path)
        return f"{error.filename}, {line}" if elsewhere else line
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f"line {lines[-1]}" if lines else "import"


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _listed(apps: dict[str, App]) -> str:
    return ", ".join(apps) or "none"
