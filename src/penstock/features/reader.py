"""Reads a view's features for the rows of a request: those of each row's key, or what stands for them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

import numpy as np

from penstock.core.errors import CorruptRecords, PenstockError
from penstock.features.held_records import HeldRecords
from penstock.features.online import OnlineReader, Progress, Seen
from penstock.features.record_arrays import UNKNOWN, RecordArrays, sound
from penstock.features.standing import Standing
from penstock.features.timeline import Column, Ints, Mask, from_words
from penstock.features.view import FeatureView, encode_keys

__all__ = ["HELD_BYTES", "ReadObserver", "Reading", "ViewReader"]

HELD_BYTES: Final = 64 * 1024 * 1024
ASKED_AGAIN_MAX: Final = 8
"""Where something has changed, so many keys are read at once with what that was, also those that are held."""
MOVING: Final = 0.5
"""Where more than this part of what was held has changed at once, all keys are, the next time."""
TURNS_MAX: Final = 3
"""How often keys are read that are not held, or have changed, before all are read at once and not held."""


class Reading(NamedTuple):
    """A view's features for some rows. `columns` and `defaulted` are by feature: where the latter is true, the
    value is the feature's default. `positions` say which update it came of, and `as_of_ms` for when it was
    read. `stale`: nothing was heard for longer than the view may be silent. `whole`: nothing is a default;
    false also where nobody has looked.
    """

    columns: list[Column]
    defaulted: list[Mask]
    positions: Ints
    as_of_ms: Ints
    stale: Mask
    whole: bool = False


class ReadObserver(Protocol):
    """Told of what was read. From the thread that reads."""

    def read(self, view: FeatureView, reading: Reading) -> None:
        """Rows were read, and go to who asked as they are."""
        ...

    def failed(self, view: FeatureView, error: PenstockError) -> None:
        """The store could not be read, or what it has of a key is damaged: rows got defaults for that."""
        ...


class ViewReader:
    """Reads one view. Nothing is raised for what the store does not give: there are defaults for that.

    What was read is held, in `held_bytes` of memory at most, until the store says that it has changed: each
    reading is of the store as it stands. `now_ms` is the time of day in milliseconds. For one thread at a time.
    """

    def __init__(
        self,
        view: FeatureView,
        store: OnlineReader,
        now_ms: Callable[[], int],
        observer: ReadObserver,
        held_bytes: int = HELD_BYTES,
    ) -> None:
        self.view = view
        self._store = store
        self._now_ms = now_ms
        self._observer = observer
        self._held = HeldRecords(len(view.features), held_bytes)
        self._seen: Seen | None = None
        self._moving = False
        self._progress: tuple[Progress, ...] = ()
        self._silent_ms_max = None if view.stale_s is None else view.stale_s * 1000
        self._standing = self._nobody = Standing((), self._silent_ms_max)
        self._all_bits = (1 << len(view.features)) - 1

    def read(
        self, keys: Sequence[Sequence[object]], as_of_ms: Ints | None = None, *, looked: bool = False
    ) -> Reading:
        """For key columns of Python's own `str`, `int` and `bool`, in the view's order. `as_of_ms` is a time
        for each row; without, the time that the view's stream had reached where the key belongs. `looked`: the
        store's `look` was called just now, for several views.
        """
        known = self._known(encode_keys(keys), looked=looked)
        positions = known.arrays.positions(known.places)
        now_ms = self._now_ms()
        standing = known.standing
        if as_of_ms is None:
            as_of_ms = standing.as_of_ms(positions, known.arrays.available_ms(known.places), now_ms)
        stale = standing.stale(positions, now_ms)
        return self._filled(known.arrays.rows(known.places, as_of_ms), positions, as_of_ms, stale)

    def defaults(self, rows: int) -> Reading:
        """What stands where nothing is read."""
        nothing = _nothing(rows)
        positions, zeros = self._held.arrays.positions(nothing), np.zeros(rows, np.int64)
        return self._filled(self._held.arrays.rows(nothing, zeros), positions, zeros, np.zeros(rows, np.bool_))

    def _known(self, keys: list[bytes], *, looked: bool) -> "_Known":
        try:
            if len(keys) > self._held.keys_max:
                return self._read_anew(keys)
            if not looked:
                self._store.look()
            return self._looked_up(keys)
        except PenstockError as error:
            self._observer.failed(self.view, error)
            return _Known(self._held.arrays, _nothing(len(keys)), self._nobody)

    def _looked_up(self, keys: list[bytes]) -> "_Known":
        """From what is held, where nothing has changed; else that is brought up to date first."""
        held = self._held
        current = self._seen is not None and self._store.is_current(self.view, self._seen)
        if current:
            places = held.places(keys)
            if places is not None:
                return _Known(held.arrays, places, self._standing)
        at_once = not current and (self._moving or len(keys) <= ASKED_AGAIN_MAX)
        wanted = list(dict.fromkeys(keys)) if at_once else held.missing(keys)
        damaged: dict[bytes, CorruptRecords] = {}
        for _ in range(TURNS_MAX):
            if not held.takes(wanted):
                break
            damaged |= self._brought_up(wanted)
            wanted = [key for key in held.missing(keys) if key not in damaged]
            if not wanted:
                for error in damaged.values():
                    self._observer.failed(self.view, error)
                return _Known(held.arrays, self._places_but(keys, damaged), self._standing)
        return self._read_anew(keys)

    def _places_but(self, keys: Sequence[bytes], damaged: Mapping[bytes, CorruptRecords]) -> Ints:
        """Of keys all of which are held, but for those that are damaged: of these nothing is known."""
        rows = [row for row, key in enumerate(keys) if key not in damaged] if damaged else range(len(keys))
        found = self._held.places([keys[row] for row in rows])
        assert found is not None, "all others were just found"
        places = _nothing(len(keys))
        places[rows] = found
        return places

    def _brought_up(self, wanted: Sequence[bytes]) -> dict[bytes, CorruptRecords]:
        """What is held is as the store has it now, and the keys that are wanted are there, as far as there is
        room. Not held is what is damaged, which is given back.
        """
        held = self._held
        answer = self._store.read(self.view, wanted, self._seen)
        self._moving = answer.changed is None or len(answer.changed) > MOVING * len(held)
        if answer.changed is None:
            held.clear()
        else:
            held.forget(answer.changed)
            held.forget(wanted)
        self._seen = answer.seen
        if answer.progress != self._progress:
            self._progress = answer.progress
            self._standing = Standing(answer.progress, self._silent_ms_max)
        found = sound(answer, len(self.view.features))
        unknown = [key for key, size in zip(wanted, answer.sizes, strict=True) if size is None]
        held.hold([wanted[row] for row in found.rows], unknown, found)
        return {wanted[row]: error for row, error in found.damaged.items()}

    def _read_anew(self, keys: list[bytes]) -> "_Known":
        """All of it at once, which is not held."""
        answer = self._store.read(self.view, keys)
        features = len(self.view.features)
        found = sound(answer, features)
        for error in found.damaged.values():
            self._observer.failed(self.view, error)
        count = len(found.rows)
        arrays = RecordArrays(
            features=features, room=count + 1, steps=max(self._held.arrays.steps_of(found), 1)
        )
        places = _nothing(len(keys))
        if count:
            places[found.rows] = np.arange(1, count + 1)
            arrays.write(places[found.rows], found)
        return _Known(arrays, places, Standing(answer.progress, self._silent_ms_max))

    def _filled(self, words: Ints, positions: Ints, as_of_ms: Ints, stale: Mask) -> Reading:
        columns: list[Column] = []
        defaulted: list[Mask] = []
        bits, *given = np.ascontiguousarray(words.T)
        if self._silent_ms_max is not None and stale.any():
            bits = np.where(stale, 0, bits)
        whole = not len(bits) or int(bits.min()) == self._all_bits
        none = np.zeros(len(bits), np.bool_)
        for number, feature in enumerate(self.view.features):
            column = from_words(given[number], feature.datatype)
            missing = none if whole else (bits >> number & 1) == 0
            columns.append(column if whole else np.where(missing, column.dtype.type(feature.default), column))
            defaulted.append(missing)
        return Reading(columns, defaulted, positions, as_of_ms, stale, whole)


class _Known(NamedTuple):
    """What is known of the keys of some rows: where each is in the arrays, and how far the view is."""

    arrays: RecordArrays
    places: Ints
    standing: Standing


def _nothing(rows: int) -> Ints:
    """The places of so many keys of which nothing is known."""
    return np.full(rows, UNKNOWN, np.int64)
