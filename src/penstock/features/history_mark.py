"""What a folder of history is of, in a file of its own in it: the view, as it was defined, and its backfills.

A history in which two definitions are mixed, or two views, looks like one, and is neither. So whoever writes
there says first what it is of, and whoever writes or reads looks there. The backfills are numbered in the order
in which they were begun: where two have the same time, the later one holds. One that replaces what there was
counts for nothing until it is whole; then one write of this file lets it hold, and what it replaces no more.
"""

from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from penstock.core.durable_files import make_folder, replace_file
from penstock.core.errors import ConfigurationError, StorageFailed
from penstock.features.view import FeatureView

__all__ = [
    "RUNS_MAX",
    "Replaced",
    "Replacements",
    "check_mark",
    "claim_folder",
    "number_of_replacement",
    "number_of_run",
    "put_in_place",
    "replacements_of",
]

FILE: Final = "_features.json"
"""Readers of tables leave out what begins with an underscore."""
RUNS_MAX: Final = 4095


class Replaced(msgspec.Struct, frozen=True, kw_only=True):
    """From when to when, in the stream's time, the backfill of this number holds in the place of all before."""

    run: int
    from_ms: int
    to_ms: int


class Replacements(NamedTuple):
    """What holds, in the order in which it came to; and those that do not, as they are not whole."""

    holding: tuple[Replaced, ...] = ()
    unfinished: frozenset[int] = frozenset()


class _Mark(msgspec.Struct, frozen=True, kw_only=True):
    app: str
    view: str
    definition: str
    backfills: tuple[str, ...] = ()
    replacing: tuple[int, ...] = ()
    """Which of the backfills replace what there was, whole or not."""
    replaced: tuple[Replaced, ...] = ()


def check_mark(folder: Path, view: FeatureView, *, writes: bool = False) -> None:
    """Nothing is amiss with a folder of which nobody has said what it is. `writes`: it must be of this app's
    view, too, and not only of one that is defined alike.

    Raises `ConfigurationError` where it is of another, `StorageFailed` where that cannot be read.
    """
    mark = _read(folder)
    if mark is not None:
        _check(mark, folder, view, writes=writes)


def claim_folder(folder: Path, view: FeatureView) -> None:
    """Says that it is of this view, durably. Raises likewise."""
    mark = _read(folder)
    if mark is None:
        _write(folder, _Mark(app=view.app, view=view.name, definition=view.definition))
    else:
        _check(mark, folder, view, writes=True)


def number_of_run(folder: Path, view: FeatureView, run: str) -> int:
    """From 1, of a backfill by the name that it has each time that it is done. Raises likewise."""
    claim_folder(folder, view)
    mark = _read(folder)
    assert mark is not None, "the folder was claimed"
    if run not in mark.backfills:
        if len(mark.backfills) >= RUNS_MAX:
            raise ConfigurationError(
                f"the history {folder} is of {RUNS_MAX} backfills already", hint="begin a new folder"
            )
        mark = msgspec.structs.replace(mark, backfills=(*mark.backfills, run))
        _write(folder, mark)
    return mark.backfills.index(run) + 1


def number_of_replacement(folder: Path, view: FeatureView, run: str) -> int:
    """Likewise, of a backfill that is to replace what there is; done again it is the same one, unless another
    backfill was begun since it came to hold.
    """
    claim_folder(folder, view)
    mark = _read(folder)
    assert mark is not None, "the folder was claimed"
    newest = len(mark.backfills)
    name = f"{run}-{len(mark.replaced)}"
    if mark.replaced and mark.replaced[-1].run == newest and mark.backfills[-1].partition("-")[0] == run:
        name = mark.backfills[-1]
    number = number_of_run(folder, view, name)
    mark = _read(folder)
    assert mark is not None, "the folder was claimed"
    if number not in mark.replacing:
        _write(folder, msgspec.structs.replace(mark, replacing=(*mark.replacing, number)))
    return number


def put_in_place(folder: Path, replaced: Replaced) -> None:
    """From now on it holds, at once and durably. Raises `StorageFailed`."""
    mark = _read(folder)
    assert mark is not None, "it was begun"
    assert replaced.run in mark.replacing, "it was begun"
    if replaced not in mark.replaced:
        _write(folder, msgspec.structs.replace(mark, replaced=(*mark.replaced, replaced)))


def replacements_of(folder: Path) -> Replacements:
    """To be read before the files are: what holds by then is all there. Raises `StorageFailed`."""
    mark = _read(folder)
    if mark is None:
        return Replacements()
    unfinished = set(mark.replacing) - {each.run for each in mark.replaced}
    return Replacements(mark.replaced, frozenset(unfinished))


def _check(mark: _Mark, folder: Path, view: FeatureView, *, writes: bool) -> None:
    if mark.definition != view.definition:
        raise ConfigurationError(
            f"the history {folder} is of view {mark.view!r} of app {mark.app!r} as it was defined otherwise"
            f" than {view.name!r} is now: by another window, other aggregates, filters or expressions",
            hint="give the view a new folder, history=, and fill it by `penstock features backfill`; or give"
            " what is new another name and folder, and keep both",
        )
    if writes and (mark.app, mark.view) != (view.app, view.name):
        raise ConfigurationError(
            f"the history {folder} is of view {mark.view!r} of app {mark.app!r}, not of {view.name!r} of"
            f" {view.app!r}",
            hint="give each view a folder of its own",
        )


def _read(folder: Path) -> _Mark | None:
    path = folder / FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Mark)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise StorageFailed(f"{path}, which says what the history is of, cannot be read: {error}") from error


def _write(folder: Path, mark: _Mark) -> None:
    try:
        make_folder(folder)
        replace_file(folder / FILE, msgspec.json.encode(mark))
    except OSError as error:
        raise StorageFailed(f"{folder / FILE} cannot be written: {error.strerror}") from error
