"""`penstock features show` and `status`: what is known of keys now, and how far each view has come."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.options import ConfigOption, JsonOption, SetOption, settings_from
from penstock.cli.output import print_json, print_table, say
from penstock.core.errors import InvalidInput, NotFound, PenstockError, shown
from penstock.core.tensors import DataType

if TYPE_CHECKING:
    from penstock.features.embedded import EmbeddedOnlineStore
    from penstock.features.online import Progress
    from penstock.features.reader import Reading
    from penstock.features.view import FeatureView, KeyColumn

__all__ = ["show", "status"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIME_MS_MAX = 8_000 * 365 * 86_400_000
"""As many years after 1970 as a date can be."""
_BOOLEANS = {"true": True, "false": False}


def show(
    view: Annotated[str, typer.Argument(metavar="VIEW", help="A feature view, or APP.VIEW.")],
    keys: Annotated[
        list[str],
        typer.Argument(metavar="KEY...", help="Keys; of several columns, all parts in turn."),
    ],
    as_json: JsonOption = False,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Show what is known of keys: their features, as a model would read them now. `*` marks a default."""
    from penstock.core.clock import SystemClock
    from penstock.features.reader import ViewReader

    store = _store(config, overrides)
    found = _view(store, view)
    columns = _columns(found, keys)
    reader = store.reader()
    clock = SystemClock()
    try:
        reading = ViewReader(found, reader, lambda: int(clock.now().timestamp() * 1000), _Telling()).read(
            columns
        )
    finally:
        reader.close()
    told = [_told(found, columns, reading, row) for row in range(len(columns[0]))]
    if as_json:
        print_json(told)
        return
    said = sorted({f"as of {each['as_of'] or 'no time yet'}" for each in told})
    say("; ".join(said) + ("; STALE" if any(each["stale"] for each in told) else ""))
    print_table(
        (*found.key_names, *found.feature_names),
        (
            (
                *each["key"].values(),
                *(f"{one['value']}{'*' if one['default'] else ''}" for one in each["features"].values()),
            )
            for each in told
        ),
    )


def status(as_json: JsonOption = False, config: ConfigOption = None, overrides: SetOption = None) -> None:
    """Show of each view how many keys are known, as of when, and when something was last heard of it."""
    from penstock.core.clock import SystemClock

    store = _store(config, overrides)
    views = store.views()
    if not views:
        raise NotFound(f"no feature view has been written in {store.path.parent}", hint="penstock run app.py")
    now = SystemClock().now()
    told = [_standing(store, view, now) for view in views]
    if as_json:
        print_json(told)
        return
    print_table(
        ("app", "view", "key", "keys", "partition", "as of", "heard", ""),
        (
            (
                *(_head(each) if not place else ("", "", "", "")),
                *(partition["partition"], partition["as_of"], f"{partition['heard_s']:.1f} s ago"),
                "STALE" if partition["stale"] else "",
            )
            for each in told
            for place, partition in enumerate(each["partitions"])
        ),
    )


class _Telling:
    """Says what is amiss with the store."""

    def read(self, view: "FeatureView", reading: "Reading") -> None:
        """Nothing is counted."""

    def failed(self, view: "FeatureView", error: PenstockError) -> None:
        say(f"feature view {view.name!r}: {error.message}")


def _store(config: Path | None, overrides: list[str] | None) -> "EmbeddedOnlineStore":
    from penstock.features.embedded import EmbeddedOnlineStore

    return EmbeddedOnlineStore(Path(settings_from(config, overrides).settings.home))


def _view(store: "EmbeddedOnlineStore", name: str) -> "FeatureView":
    views = store.views()
    found = [view for view in views if name in (view.name, f"{view.app}.{view.name}")]
    if len(found) > 1:
        raise InvalidInput(
            f"{len(found)} apps have a feature view {shown(name)}",
            where="VIEW",
            hint=f"name one of {', '.join(f'{view.app}.{view.name}' for view in found)}",
        )
    if found:
        return found[0]
    known = ", ".join(view.name for view in views)
    raise NotFound(
        f"nothing is known of a feature view {shown(name)} in {store.path.parent}",
        hint=f"there are {known}"
        if known
        else "a view is written by `penstock run` of the app that declares it",
    )


def _columns(view: "FeatureView", given: Sequence[str]) -> list[list[object]]:
    """The parts of keys in their types, by column. Raises `InvalidInput`."""
    width = len(view.keys)
    if len(given) % width:
        raise InvalidInput(
            f"the key of {view.name!r} is {', '.join(view.key_names)}, and {len(given)} parts are given",
            where="KEY",
        )
    return [[_part(key, text) for text in given[place::width]] for place, key in enumerate(view.keys)]


def _part(column: "KeyColumn", text: str) -> object:
    if column.datatype is DataType.STRING:
        return text
    try:
        return int(text) if column.datatype is DataType.INT64 else _BOOLEANS[text.lower()]
    except (KeyError, ValueError):
        wanted = "a number" if column.datatype is DataType.INT64 else "true or false"
        raise InvalidInput(f"{column.name} is {shown(text)}, not {wanted}", where=column.name) from None


def _told(
    view: "FeatureView", columns: Sequence[Sequence[object]], reading: "Reading", row: int
) -> dict[str, Any]:
    from penstock.features.online import NO_POSITION, OFFSET_BITS

    position = int(reading.positions[row])
    partition, offset = divmod(position, 1 << OFFSET_BITS) if position != NO_POSITION else (None, None)
    features = {
        name: {"value": column[row].item(), "default": bool(mask[row])}
        for name, column, mask in zip(view.feature_names, reading.columns, reading.defaulted, strict=True)
    }
    return {
        "view": view.name,
        "key": {name: column[row] for name, column in zip(view.key_names, columns, strict=True)},
        "as_of": _time(int(reading.as_of_ms[row])),
        "partition": partition,
        "offset": offset,
        "stale": bool(reading.stale[row]),
        "features": features,
    }


def _standing(store: "EmbeddedOnlineStore", view: "FeatureView", now: datetime) -> dict[str, Any]:
    reader = store.reader()
    try:
        progress = reader.read(view, []).progress
    finally:
        reader.close()
    return {
        "app": view.app,
        "view": view.name,
        "key": list(view.key_names),
        "keys": store.size(view),
        "partitions": [_come(view, each, now) for each in progress],
    }


def _head(standing: Mapping[str, Any]) -> tuple[object, ...]:
    return standing["app"], standing["view"], ", ".join(standing["key"]), standing["keys"]


def _come(view: "FeatureView", progress: "Progress", now: datetime) -> dict[str, Any]:
    heard_s = now.timestamp() - progress.heard_ms / 1000
    return {
        "partition": progress.partition,
        "as_of": _time(progress.as_of_ms),
        "next_offset": progress.next_offset,
        "heard_s": heard_s,
        "stale": view.stale_s is not None and heard_s > view.stale_s,
    }


def _time(milliseconds: int) -> str:
    """In UTC; empty where the stream has not come to any time yet."""
    if not 0 <= milliseconds <= _TIME_MS_MAX:
        return ""
    return (_EPOCH + timedelta(milliseconds=milliseconds)).isoformat(timespec="milliseconds")
