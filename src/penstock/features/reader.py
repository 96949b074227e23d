"""Reads a view's features for the rows of a request: those of each row's key, or what stands for them."""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

import numpy as np

from penstock.core.errors import CorruptRecords, PenstockError
from penstock.features.held_records import HeldRecords
from penstock.features.online import Answer, OnlineReader, Progress, Seen
from penstock.features.record_arrays import UNKNOWN, RecordArrays
from penstock.features.standing import Standing
from penstock.features.timeline import Column, Ints, Mask, from_words
from penstock.features.view import FeatureView, encode_keys

__all__ = ["HELD_BYTES", "ReadObserver", "Reading", "ViewReader"]

HELD_BYTES: Final = 64 * 1024 * 1024
TURNS_MAX: Final = 3
"""How often it is looked what has changed, while others write."""


class Reading(NamedTuple):
    """A view's features for some rows. `columns` and `defaulted` are by feature: where the latter is true, the
    value is the feature's default. `positions` say which update it came of, and `as_of_ms` for when it was
    read. `stale`: nothing was heard for longer than the view may be silent.
    """

    columns: list[Column]
    defaulted: list[Mask]
    positions: Ints
    as_of_ms: Ints
    stale: Mask


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
        self._progress: tuple[Progress, ...] = ()
        self._silent_ms_max = None if view.stale_s is None else view.stale_s * 1000
        self._standing = Standing((), self._silent_ms_max)
        self._all_bits = (1 << len(view.features)) - 1

    def read(self, keys: Sequence[Sequence[object]], as_of_ms: Ints | None = None) -> Reading:
        """For key columns of Python's own `str`, `int` and `bool`, in the view's order. `as_of_ms` is a time
        for each row; without, the time that the view's stream had reached where the key belongs.
        """
        known = self._known(encode_keys(keys))
        positions = known.arrays.positions(known.places)
        now_ms = self._now_ms()
        standing = self._standing_of(known.progress)
        if as_of_ms is None:
            as_of_ms = standing.as_of_ms(positions, known.arrays.available_ms(known.places), now_ms)
        stale = standing.stale(positions, now_ms)
        return self._filled(known.arrays.rows(known.places, as_of_ms), positions, as_of_ms, stale)

    def defaults(self, rows: int) -> Reading:
        """What stands where nothing is read."""
        nothing = _nothing(rows)
        positions, zeros = self._held.arrays.positions(nothing), np.zeros(rows, np.int64)
        return self._filled(self._held.arrays.rows(nothing, zeros), positions, zeros, np.zeros(rows, np.bool_))

    def _known(self, keys: list[bytes]) -> "_Known":
        try:
            for _ in range(TURNS_MAX):
                known = self._turn(keys)
                if known is not None:
                    return known
            return self._read_anew(keys)
        except PenstockError as error:
            self._seen = None
            self._observer.failed(self.view, error)
            return _Known(self._held.arrays, _nothing(len(keys)), ())

    def _turn(self, keys: list[bytes]) -> "_Known | None":
        """With what is held, and what is read beside it. None where something was written meanwhile."""
        held = self._held
        news = self._store.news(self.view, self._seen)
        if news.changed is None:
            held.clear()
        elif news.changed:
            held.forget(news.changed)
        self._seen = news.seen
        places = held.places(keys)
        if not (places < 0).any():
            return _Known(held.arrays, places, news.progress)
        missing = held.missing(keys)
        if not held.takes(missing):
            return self._read_anew(keys)
        answer = self._store.read(self.view, missing)
        damaged = self._hold(missing, answer)
        if answer.seen != news.seen:
            return None
        places = held.places(keys)
        lost = places < 0
        if lost.any():
            if not damaged.keys() >= {keys[row] for row in np.flatnonzero(lost).tolist()}:
                return self._read_anew(keys)  # they have given way to the others at once
            places[lost] = UNKNOWN
        for error in damaged.values():
            self._observer.failed(self.view, error)
        return _Known(held.arrays, places, news.progress)

    def _hold(self, keys: Sequence[bytes], answer: Answer) -> dict[bytes, CorruptRecords]:
        """But for what is damaged, which is given back."""
        damaged: dict[bytes, CorruptRecords] = {}
        check = self._held.arrays.check
        for key, record in zip(keys, answer.records, strict=True):
            if record is not None:
                try:
                    check(record)
                except CorruptRecords as error:
                    damaged[key] = error
        whole = [pair for pair in zip(keys, answer.records, strict=True) if pair[0] not in damaged]
        self._held.hold(whole)
        return damaged

    def _read_anew(self, keys: list[bytes]) -> "_Known":
        """All of it at once, which is not held."""
        answer = self._store.read(self.view, keys)
        rows: list[int] = []
        records: list[bytes] = []
        check = self._held.arrays.check
        for row, record in enumerate(answer.records):
            if record is None:
                continue
            try:
                check(record)
            except CorruptRecords as error:
                self._observer.failed(self.view, error)
                continue
            rows.append(row)
            records.append(record)
        places = _nothing(len(keys))
        steps = max(self._held.arrays.steps_of(records), 1)
        arrays = RecordArrays(features=len(self.view.features), room=len(rows) + 1, steps=steps)
        if rows:
            places[rows] = np.arange(1, len(rows) + 1)
            arrays.write(places[rows], records)
        return _Known(arrays, places, answer.progress)

    def _standing_of(self, progress: tuple[Progress, ...]) -> Standing:
        if progress is not self._progress:
            self._progress, self._standing = progress, Standing(progress, self._silent_ms_max)
        return self._standing

    def _filled(self, words: Ints, positions: Ints, as_of_ms: Ints, stale: Mask) -> Reading:
        bits = words[:, 0]
        if stale.any():
            bits = np.where(stale, 0, bits)
        columns: list[Column] = []
        defaulted: list[Mask] = []
        whole = bool((bits == self._all_bits).all())
        none = np.zeros(len(words), np.bool_)
        for number, feature in enumerate(self.view.features):
            column = from_words(words[:, 1 + number], feature.datatype)
            missing = none if whole else (bits >> number & 1) == 0
            columns.append(column if whole else np.where(missing, column.dtype.type(feature.default), column))
            defaulted.append(missing)
        return Reading(columns, defaulted, positions, as_of_ms, stale)


class _Known(NamedTuple):
    """What is known of the keys of some rows: where each is in the arrays, and how far the view is."""

    arrays: RecordArrays
    places: Ints
    progress: tuple[Progress, ...]


def _nothing(rows: int) -> Ints:
    """The places of so many keys of which nothing is known."""
    return np.full(rows, UNKNOWN, np.int64)
