"""What a serve process should have loaded: the app's declarations and clients' orders, looked up."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from penstock.app.declarations import App
from penstock.app.loader import Loader
from penstock.app.model_declarations import CallableDeclaration, Declaration, ModelDeclaration
from penstock.core.errors import InvalidInput, NotFound, PenstockError, shown
from penstock.models.version import ModelVersion
from penstock.serving.deployment import ServedModel
from penstock.supervision.messages import Pinned, Wanted

__all__ = ["Target", "Targets", "look_up", "look_up_version"]

ONNX_MEMORY_FACTOR = 2


@dataclass(frozen=True, kw_only=True)
class Target:
    """A version that is wanted. `default` says that it is to answer for its model; `load` blocks."""

    model: str
    version: str
    default: bool
    size_bytes: int
    load: Callable[[], ServedModel]

    @property
    def key(self) -> tuple[str, str]:
        return self.model, self.version


@dataclass(frozen=True, kw_only=True)
class Targets:
    """All that is wanted. `unknown` are models of which that could not be found out, with the reason."""

    wanted: tuple[Target, ...]
    unknown: dict[str, PenstockError]
    settled: frozenset[str]
    """Models of which all is known that is declared, though perhaps not all that clients ordered."""

    def defaults(self) -> set[str]:
        """The models of which it is known what is to answer."""
        return {target.model for target in self.wanted if target.default}

    def models(self) -> set[str]:
        return {target.model for target in self.wanted} | set(self.unknown)


def look_up(app: App, loader: Loader, wanted: Wanted) -> Targets:
    """What the declarations and orders mean at the moment. Blocks: it reads the registry."""
    declared = {each.name: each for each in app.declarations}
    defaults = {name: each for name, each in declared.items() if name not in wanted.unloaded}
    for pinned in wanted.loaded:
        ordered = ModelDeclaration(name=pinned.model, objective=app.objective)
        defaults.setdefault(pinned.model, declared.get(pinned.model, ordered))
    found: dict[tuple[str, str], Target] = {}
    unknown: dict[str, PenstockError] = {}
    settled: set[str] = set()
    for name, declaration in defaults.items():
        named = name in declared and name not in wanted.unloaded
        only_pinned = not named and Pinned(name, "") not in wanted.loaded
        versions = {pinned.version for pinned in wanted.loaded if pinned.model == name} - {""}
        if not only_pinned:
            try:
                for target in _declared(loader, declaration):
                    found.setdefault(target.key, target)
                settled.add(name)
            except PenstockError as error:
                unknown[name] = error
        for version in sorted(versions):
            try:
                target = _target(loader, declaration, version)
            except PenstockError as error:
                unknown.setdefault(name, error)
            else:
                found.setdefault(target.key, target)
    return Targets(wanted=tuple(found.values()), unknown=unknown, settled=frozenset(settled))


def look_up_version(app: App, loader: Loader, model: str, version: str) -> Target:
    """One version of a model that the app declares. Blocks. Raises `NotFound` and the like."""
    (declared,) = (each for each in app.declarations if each.name == model)
    return _target(loader, declared, version)


def _target(loader: Loader, declared: Declaration, version: str | None) -> Target:
    """The target of a declaration: its own version, or (not as the default) the one named."""
    if isinstance(declared, CallableDeclaration):
        return _callable_target(loader, declared, version)
    if version is None:
        found = loader.resolve(declared)
    elif version.isascii() and version.isdigit() and len(version) < 18:
        found = loader.registry.get(declared.name, int(version))
    else:
        raise InvalidInput(f"version {shown(version)} of {declared.name!r} is not a number", where="version")
    return _registry_target(loader, declared, found, default=version is None)


def _declared(loader: Loader, declared: Declaration) -> Iterator[Target]:
    """What answers for the model, then what the declaration wants loaded besides."""
    yield _target(loader, declared, None)
    if not isinstance(declared, ModelDeclaration):
        return
    for other in declared.beside:
        if isinstance(other, str):
            found = loader.registry.get(declared.name, alias=other)
        else:
            found = loader.registry.get(declared.name, other)
        yield _registry_target(loader, declared, found, default=False)


def _registry_target(
    loader: Loader, declared: ModelDeclaration, found: ModelVersion, *, default: bool
) -> Target:
    return Target(
        model=declared.name,
        version=str(found.number),
        default=default,
        size_bytes=found.executable.size_bytes * ONNX_MEMORY_FACTOR,
        load=lambda: loader.load(declared, found),
    )


def _callable_target(loader: Loader, declared: CallableDeclaration, version: str | None) -> Target:
    standing = loader.callable_version()
    if version not in (None, standing):
        raise NotFound(
            f"there is no version {shown(version)} of {declared.name!r}",
            hint=f"a callable has one version, {standing}: what is in the app file",
        )
    return Target(
        model=declared.name,
        version=standing,
        default=version is None,
        size_bytes=0,
        load=lambda: loader.load_callable(declared),
    )
