"""`penstock model`: the registry."""

import contextlib
import getpass
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from penstock.cli.options import (
    ConfigOption,
    JsonOption,
    SetOption,
    parse_metrics,
    parse_parameters,
    settings_from,
)
from penstock.cli.output import print_json, print_table, print_text, say
from penstock.cli.signature_lines import signature_lines, type_hints
from penstock.core.errors import CorruptArtifact, InvalidInput, StorageFailed, shown

if TYPE_CHECKING:
    from penstock.models.registry.registry import Registry
    from penstock.models.version import ModelVersion

__all__ = ["app"]

GRACE_S_MAX = 1e9

PROOF_ROWS = 10_000

app = typer.Typer(no_args_is_help=True, help="Models and their versions.")

Reference = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="NAME (its champion, else the newest), NAME:VERSION or NAME@ALIAS."),
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The model's name.")]


@app.command()
def push(  # noqa: PLR0913, PLR0917 - the options of one command
    name: Name,
    file: Annotated[Path, typer.Argument(help="An ONNX, joblib, pickle, XGBoost or LightGBM file.")],
    samples: Annotated[
        Path | None,
        typer.Option(help="Sample rows (.parquet, .csv, .json, .npy …): 10,000 or more prove the ONNX form."),
    ] = None,
    alias: Annotated[list[str] | None, typer.Option(help="Point this alias at the new version.")] = None,
    trust_pickle: Annotated[
        bool, typer.Option("--trust-pickle", help="Open a pickle or joblib file, which runs code from it.")
    ] = False,
    metric: Annotated[list[str] | None, typer.Option(metavar="NAME=NUMBER", help="Keep a metric.")] = None,
    param: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="Keep a parameter.")] = None,
    data: Annotated[str | None, typer.Option(help="What data it was trained on.")] = None,
    code: Annotated[
        str | None, typer.Option(help="The revision of the code (default: git's, where there is one).")
    ] = None,
    parent: Annotated[int | None, typer.Option(help="The version it was made from.")] = None,
    creator: Annotated[str | None, typer.Option(help="Who made it (default: the user).")] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Push a model as a new version, compiled to ONNX where its answers stay the same."""
    from penstock.models.push import Provenance, prepare
    from penstock.models.version import Lineage

    provenance = Provenance(
        creator=creator or getpass.getuser(),
        metrics=parse_metrics(metric),
        parameters=parse_parameters(param),
        lineage=Lineage(data=data, code=code or _git_revision(), parent=parent),
        aliases=tuple(alias or ()),
    )
    with _registry(config, overrides) as registry:
        # What libraries and pickled code print while they work is not the data that this command prints.
        with contextlib.redirect_stdout(sys.stderr):
            candidate = prepare(name, file, samples=samples, trust_pickle=trust_pickle, provenance=provenance)
        version = registry.push(candidate)
    if as_json:
        print_json(version)
        return
    _say_pushed(version)
    print_text(f"{version.model}:{version.number}")


@app.command("list")
def list_models(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="List this model's versions.")] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """List models, or the versions of one."""
    with _registry(config, overrides) as registry:
        names = [name] if name is not None else registry.models()
        found = [(registry.versions(each), registry.aliases(each)) for each in names]
    if as_json:
        print_json(
            [
                {"model": each, "aliases": aliases, "versions": versions}
                for each, (versions, aliases) in zip(names, found, strict=True)
            ]
        )
        return
    print_table(
        ("model", "version", "aliases", "runs on", "metrics", "created", "by"),
        (row for versions, aliases in found for row in _version_rows(versions, aliases)),
    )


@app.command()
def show(
    reference: Reference, as_json: JsonOption = False, config: ConfigOption = None, overrides: SetOption = None
) -> None:
    """Show all that is known of a version, and why it runs the way it does."""
    with _registry(config, overrides) as registry:
        version = registry.resolve(reference)
        aliases = _aliases_of(registry.aliases(version.model), version.number)
    if as_json:
        print_json(msgspec.to_builtins(version) | {"aliases": aliases})
    else:
        print_table(("", ""), _shown(version, aliases))


@app.command()
def alias(  # noqa: PLR0913, PLR0917 - the options of one command
    name: Name,
    alias_name: Annotated[str, typer.Argument(metavar="ALIAS")],
    version: Annotated[int | None, typer.Argument(metavar="[VERSION]", help="The version to point at.")] = None,
    expect: Annotated[
        int | None, typer.Option(help="Only if it points at this version now (0: only if it is not set).")
    ] = None,
    remove: Annotated[bool, typer.Option("--delete", help="Remove the alias.")] = False,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Point an alias at a version, or remove it."""
    from penstock.models.registry.registry import ANY_VERSION

    if remove == (version is not None):
        raise InvalidInput("give either a VERSION to point at or --delete")
    with _registry(config, overrides) as registry:
        if version is None:
            was = registry.delete_alias(name, alias_name, expected=ANY_VERSION if expect is None else expect)
            say(f"{name}@{alias_name} removed (was {was})")
            return
        expected = ANY_VERSION if expect is None else (expect or None)
        registry.move_alias(name, alias_name, to=version, expected=expected)
    say(f"{name}@{alias_name} is version {version}")


@app.command()
def pull(
    reference: Reference,
    to: Annotated[Path, typer.Argument(help="The folder to put the files in.")] = Path(),
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Copy a version's files to a folder; their digests are checked first."""
    with _registry(config, overrides) as registry:
        version = registry.resolve(reference)
        try:
            to.mkdir(parents=True, exist_ok=True)
            for role, filename in _pulled_names(version).items():
                target = to / filename
                shutil.copyfile(registry.fetch(version, role), target)  # type: ignore[arg-type]
                print_text(str(target))
        except OSError as error:
            raise StorageFailed(f"cannot write to {to}: {error.strerror}") from error


@app.command()
def delete(
    reference: Annotated[str, typer.Argument(metavar="NAME:VERSION", help="The version to delete.")],
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Delete a version that no alias points at; `gc` then frees its files."""
    from penstock.models.naming import Reference as Named

    named = Named.parse(reference)
    if named.number is None:
        raise InvalidInput(
            f"{shown(reference)} does not name one version", hint="write NAME:VERSION, e.g. late:3"
        )
    with _registry(config, overrides) as registry:
        registry.delete(named.model, named.number)
    say(f"deleted {named.describe()}")


@app.command()
def gc(
    grace_s: Annotated[
        float,
        typer.Option("--grace", min=0, max=GRACE_S_MAX, help="Keep files younger than this, in seconds."),
    ] = 3600.0,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Delete files that no version uses."""
    with _registry(config, overrides) as registry:
        garbage = registry.collect_garbage(grace_s)
    if as_json:
        print_json(garbage)
    else:
        removed = len(garbage.artifacts) + garbage.unfinished_files
        freed = f"removed {removed} files, {garbage.freed_bytes / 1e6:.1f} MB"
        say(f"{freed}; files younger than {grace_s:g} s are kept")


def _registry(config: Path | None, overrides: list[str] | None) -> "Registry":
    from penstock.app.loader import open_registry

    return open_registry(settings_from(config, overrides).settings)


def _git_revision() -> str | None:
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],  # noqa: S607 - the user's git
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None


def _say_pushed(version: "ModelVersion") -> None:
    say(f"pushed {version.model}:{version.number}  runs on {_runs_on(version)}")
    for line in (*signature_lines(version), *_compilation_lines(version)):
        say(f"  {line}")
    for hint in type_hints(version):
        say(hint)
    if any(attempt.parity and attempt.parity.rows < PROOF_ROWS for attempt in version.compilations):
        say(f"  few sample rows prove little: give {PROOF_ROWS:,} or more where there are that many")


def _pulled_names(version: "ModelVersion") -> dict[str, str]:
    """The names in a folder of the version's files, by role: two files never have one.

    Raises `CorruptArtifact` for a stored name that would lead out of the folder.
    """
    names = {"source": version.source.filename}
    if version.compiled is not None:
        names["compiled"] = version.compiled.filename
    for role, name in names.items():
        if name in {"", ".", ".."} or any(character in name for character in "/\\\0"):
            raise CorruptArtifact(
                f"{version.model}:{version.number}: {shown(name)} cannot name its {role} file"
            )
    # Some file systems do not tell capitals.
    if names.get("compiled", "").casefold() == names["source"].casefold():
        names["compiled"] = f"compiled-{names['compiled']}"
    return names


def _runs_on(version: "ModelVersion") -> str:
    return "ONNX Runtime" if version.runtime.value == "onnx" else f"{version.format.value}, natively"


def _compilation_lines(version: "ModelVersion") -> Iterator[str]:
    for attempt in version.compilations:
        if attempt.parity is None:
            yield f"ONNX ({attempt.precision}): no: {attempt.failure}"
            continue
        parity = attempt.parity
        yield (
            f"ONNX ({attempt.precision}): {'yes' if attempt.passed else 'no'}: on {parity.rows} rows "
            f"{parity.labels_differ} labels and {parity.values_differ} values differ, at most by "
            f"{parity.difference_max:.1e} (allowed {parity.tolerance:.0e}); rounding inputs to float32 moves "
            f"the native answer of {parity.float32_rows} rows"
        )


def _aliases_of(aliases: dict[str, int], number: int) -> list[str]:
    return sorted(alias for alias, target in aliases.items() if target == number)


def _version_rows(
    versions: "tuple[ModelVersion, ...]", aliases: dict[str, int]
) -> Iterator[tuple[object, ...]]:
    for version in versions:
        yield (
            version.model,
            version.number,
            ", ".join(_aliases_of(aliases, version.number)),
            _runs_on(version),
            _pairs(version.metrics),
            version.created_at.strftime("%Y-%m-%d %H:%M"),
            version.creator,
        )


def _shown(version: "ModelVersion", aliases: list[str]) -> Iterator[tuple[str, str]]:
    yield "model", f"{version.model}:{version.number}"
    yield "aliases", ", ".join(aliases) or "none"
    yield "runs on", _runs_on(version)
    for line in _compilation_lines(version):
        yield "", line
    for side, specs in (("input", version.signature.inputs), ("output", version.signature.outputs)):
        for spec in specs:
            categories = f", one of {len(spec.categories)} values" if spec.categories else ""
            yield side, f"{spec.name}  {spec.describe()}{categories}"
    yield "metrics", _pairs(version.metrics)
    yield "parameters", _pairs(version.parameters)
    lineage = version.lineage
    yield "data", lineage.data or ""
    yield "code", lineage.code or ""
    yield "parent", "" if lineage.parent is None else str(lineage.parent)
    yield "created", f"{version.created_at:%Y-%m-%d %H:%M:%S} UTC by {version.creator}"
    yield (
        "source",
        f"{version.source.filename}, {version.source.size_bytes} bytes, sha256 {version.source.digest}",
    )
    if version.compiled is not None:
        yield "compiled", f"{version.compiled.size_bytes} bytes, sha256 {version.compiled.digest}"
    yield "pickle", "trusted by --trust-pickle" if version.trusted_pickle else "none is opened"
    yield "digest", version.digest


def _pairs(values: "dict[str, float] | dict[str, str | int | float | bool]") -> str:
    return ", ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in values.items()
    )
