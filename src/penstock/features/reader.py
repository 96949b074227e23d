"""Reads a view's features for the rows of a request: those of each row's key, or what stands for them."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from penstock.core.errors import CorruptRecords, PenstockError
from penstock.features.online import NO_TIME_MS, OFFSET_BITS, Answer, OnlineReader, Progress, read_record
from penstock.features.timeline import HEAD_WORDS, Column, Ints, Mask, from_words, pick_rows
from penstock.features.view import FeatureView, encode_keys

__all__ = ["NO_POSITION", "ReadObserver", "Reading", "ViewReader"]

NO_POSITION = -1
"""Of a key of which nothing is known, or nothing that came by the log."""


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

    `now_ms` is the time of day in milliseconds. For one thread at a time.
    """

    def __init__(
        self, view: FeatureView, store: OnlineReader, now_ms: Callable[[], int], observer: ReadObserver
    ) -> None:
        self.view = view
        self._store = store
        self._now_ms = now_ms
        self._observer = observer
        self._silent_ms_max = None if view.stale_s is None else view.stale_s * 1000
        self._row_bytes = 8 * (HEAD_WORDS + len(view.features))
        """Of a timeline."""

    def read(self, keys: Sequence[Sequence[object]], as_of_ms: Ints | None = None) -> Reading:
        """For key columns of Python's own `str`, `int` and `bool`, in the view's order. `as_of_ms` is a time
        for each row; without, the time that the view's stream had reached where the key belongs.
        """
        answer = self._asked(encode_keys(keys))
        known = self._known(answer.records)
        stands_ms, stale = self._progress(answer.progress, known)
        return self._filled(known, stands_ms if as_of_ms is None else as_of_ms, stale)

    def defaults(self, rows: int) -> Reading:
        """What stands where nothing is read."""
        nothing = _Known([], _all(rows, NO_POSITION), _all(rows, 0), [])
        return self._filled(nothing, _all(rows, 0), np.zeros(rows, np.bool_))

    def _asked(self, keys: list[bytes]) -> Answer:
        try:
            return self._store.read(self.view, keys)
        except PenstockError as error:
            self._observer.failed(self.view, error)
            return Answer([None] * len(keys), ())

    def _known(self, records: Sequence[bytes | None]) -> "_Known":
        rows: list[int] = []
        timelines: list[bytes] = []
        positions = [NO_POSITION] * len(records)
        available_ms = [0] * len(records)
        row_bytes = self._row_bytes
        for row, packed in enumerate(records):
            if packed is None:
                continue
            try:
                positions[row], available_ms[row], timeline = read_record(packed)
                if not timeline or len(timeline) % row_bytes:
                    raise CorruptRecords("what is kept of a key is no timeline of this view")
            except CorruptRecords as error:
                positions[row] = NO_POSITION
                self._observer.failed(self.view, error)
                continue
            rows.append(row)
            timelines.append(timeline)
        return _Known(rows, np.array(positions, np.int64), np.array(available_ms, np.int64), timelines)

    def _progress(self, progress: Sequence[Progress], known: "_Known") -> tuple[Ints, Mask]:
        """How far the stream was for each row's key, and whether nothing was heard for too long.

        Where nothing is known of a key, its partition is not known either: it has come as far as the one that
        is furthest behind. What history filled has come as far as any. A partition without an event says
        nothing of time; where none has had one, it is that of what is known of the key, or now.
        """
        rows = len(known.positions)
        now_ms = self._now_ms()
        as_of_ms = np.where(known.available_ms > 0, known.available_ms, now_ms)
        if not progress:
            return as_of_ms, np.full(rows, self._silent_ms_max is not None, np.bool_)
        stale = np.full(rows, any(self._is_silent(each, now_ms) for each in progress), np.bool_)
        partitions = known.positions >> OFFSET_BITS
        timed = [each.as_of_ms for each in progress if each.as_of_ms > NO_TIME_MS]
        if timed:
            filled = partitions < 0
            as_of_ms[filled] = np.where(
                known.available_ms[filled] > 0, np.maximum(known.available_ms[filled], max(timed)), min(timed)
            )
        for each in progress:
            of_it = partitions == each.partition
            stale[of_it] = self._is_silent(each, now_ms)
            if each.as_of_ms > NO_TIME_MS:
                as_of_ms[of_it] = each.as_of_ms
        return as_of_ms, stale

    def _is_silent(self, progress: Progress, now_ms: int) -> bool:
        """A time of day that is still to come was told by a clock that was wrong."""
        return self._silent_ms_max is not None and abs(now_ms - progress.heard_ms) > self._silent_ms_max

    def _filled(self, known: "_Known", as_of_ms: Ints, stale: Mask) -> Reading:
        rows, features = len(as_of_ms), self.view.features
        words = self._words(known, as_of_ms)
        bits = words[:, 1]
        if stale.any():
            bits = np.where(stale, 0, bits)
        columns: list[Column] = []
        defaulted: list[Mask] = []
        whole = bool((bits == (1 << len(features)) - 1).all())
        for number, feature in enumerate(features):
            column = from_words(words[:, HEAD_WORDS + number], feature.datatype)
            missing = np.zeros(rows, np.bool_) if whole else (bits >> number & 1) == 0
            columns.append(column if whole else np.where(missing, column.dtype.type(feature.default), column))
            defaulted.append(missing)
        return Reading(columns, defaulted, known.positions, as_of_ms, stale)

    def _words(self, known: "_Known", as_of_ms: Ints) -> Ints:
        """The row of each timeline that holds then, a row of no features where there is no timeline."""
        width = HEAD_WORDS + len(self.view.features)
        timelines = known.timelines
        rows = len(as_of_ms)
        if len(timelines) == 1 == rows:
            words = np.frombuffer(timelines[0], "<i8").reshape(-1, width)
            picked = max(int(words[:, 0].searchsorted(as_of_ms[0], "right")) - 1, 0)
            return words[picked : picked + 1]
        if not timelines:
            return np.zeros((rows, width), np.int64)
        words = np.frombuffer(b"".join(timelines), "<i8").reshape(-1, width)
        lengths = np.fromiter(map(len, timelines), np.int64, count=len(timelines)) // self._row_bytes
        whole = len(timelines) == rows
        found: Ints = words[pick_rows(words[:, 0], lengths, as_of_ms if whole else as_of_ms[known.rows])]
        if whole:
            return found
        spread = np.zeros((rows, width), np.int64)
        spread[known.rows] = found
        return spread


class _Known(NamedTuple):
    """The rows whose key is known, with their timelines; of all rows where the key's update is in the log, and
    when it was appended.
    """

    rows: list[int]
    positions: Ints
    available_ms: Ints
    timelines: list[bytes]


def _all(rows: int, value: int) -> Ints:
    column: Ints = np.empty(rows, np.int64)
    column.fill(value)
    return column
