"""What was read of a view's keys, held in memory.

A key has a place in arrays. Where there is no more room, those give way that nobody has asked for since the
hand came by last (CLOCK: Corbató, 1968).
"""

from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Final

import numpy as np

from penstock.features.record_arrays import UNKNOWN, RecordArrays, Sound
from penstock.features.timeline import Ints, Mask

__all__ = ["HeldRecords"]

UNKNOWN_MAX: Final = 10_000
"""Keys of which nothing is known that are held: anybody may ask for any."""
KEY_BYTES_MAX: Final = 256
"""Longer keys are not taken."""
KEY_BYTES: Final = 256
"""What Python takes for a key and its place, about."""
ROOM_AT_FIRST: Final = 256
LONGER: Final = 1.25
"""By how much timelines are taken to be longer, at least, when one is longer than all before."""
SWEPT_AT_ONCE: Final = 1024


class HeldRecords:
    """Of a view with so many `features`. Takes `bytes_max` of memory, about. For one thread at a time."""

    def __init__(self, features: int, bytes_max: int) -> None:
        self._features = features
        self._bytes_max = bytes_max
        self._steps = 1
        self.clear()

    def __len__(self) -> int:
        """Keys that are held, also those of which nothing is known."""
        return len(self._places)

    @property
    def keys_max(self) -> int:
        """So many known keys are held at most, with timelines as long as the longest so far."""
        return max(self._bytes_max // (self.arrays.place_bytes + KEY_BYTES) - 1, 0)

    def clear(self) -> None:
        self.arrays = RecordArrays(features=self._features, room=1, steps=self._steps)
        """Where what is held stands, by place."""
        self._places: dict[bytes, int] = {}
        self._unknown = 0
        self._keys: list[bytes | None] = [None]
        self._vacant: list[int] = []
        self._asked: Mask = np.zeros(1, np.bool_)
        """Since the hand came by."""
        self._hand = 1

    def places(self, keys: Sequence[bytes]) -> Ints | None:
        """Where each key is; None where not all are held."""
        try:
            found = np.fromiter(map(self._places.__getitem__, keys), np.int64, count=len(keys))
        except KeyError:
            return None
        self._asked[found] = True
        return found

    def missing(self, keys: Sequence[bytes]) -> list[bytes]:
        """Those that are not held, each once."""
        places = self._places
        return list(dict.fromkeys([key for key in keys if key not in places]))

    def forget(self, keys: Iterable[bytes]) -> None:
        for key in keys:
            place = self._places.pop(key, None)
            if place == UNKNOWN:
                self._unknown -= 1
            elif place is not None:
                self._keys[place] = None
                self._vacant.append(place)

    def takes(self, keys: Sequence[bytes]) -> bool:
        """Whether there can be room for all of these."""
        return len(keys) <= self.keys_max and max(map(len, keys), default=0) <= KEY_BYTES_MAX

    def hold(self, keys: Sequence[bytes], unknown: Sequence[bytes], records: Sound) -> None:
        """What the store has of keys that are not held, each of which is there once, as far as there is room;
        and keys of which it has nothing.
        """
        if keys:
            self._hold_known(keys, records)
        if unknown:
            self._hold_unknown(unknown)

    def _hold_known(self, keys: Sequence[bytes], records: Sound) -> None:
        steps = self.arrays.steps_of(records)
        if steps > self._steps:
            self._steps = max(steps, int(self._steps * LONGER))
            self.clear()
        places = self._taken(len(keys))
        if not places:
            return
        fitting = records if len(places) == len(keys) else records.cut(len(places))
        self.arrays.write(np.array(places, np.int64), fitting)
        self._places.update(zip(keys, places, strict=False))
        for key, place in zip(keys, places, strict=False):
            self._keys[place] = key

    def _hold_unknown(self, keys: Sequence[bytes]) -> None:
        if self._unknown + len(keys) > UNKNOWN_MAX:
            self._places = {key: place for key, place in self._places.items() if place != UNKNOWN}
            self._unknown = 0
        held = keys[:UNKNOWN_MAX]
        self._places.update(zip(held, repeat(UNKNOWN), strict=False))
        self._unknown += len(held)

    def _taken(self, count: int) -> list[int]:
        """So many places that are nobody's, or as many as there may be."""
        keys_max = self.keys_max
        count = min(count, keys_max)
        lacking = count - len(self._vacant)
        taken_or_vacant = self.arrays.room - 1
        if lacking > 0 and taken_or_vacant < keys_max:
            self._grow(min(max(taken_or_vacant + lacking, 2 * taken_or_vacant, ROOM_AT_FIRST), keys_max) + 1)
        while len(self._vacant) < count:
            self._sweep(count - len(self._vacant))
        start = len(self._vacant) - count
        places = self._vacant[start:]
        del self._vacant[start:]
        return places

    def _grow(self, room: int) -> None:
        self._vacant += range(self.arrays.room, room)
        self._keys += repeat(None, room - self.arrays.room)
        self._asked = np.append(self._asked, np.zeros(room - self.arrays.room, np.bool_))
        self.arrays.grow(room)

    def _sweep(self, lacking: int) -> None:
        """The hand goes on by some places, until so many have given way. Twice around, and all have."""
        start, stop = self._hand, min(self._hand + SWEPT_AT_ONCE, self.arrays.room)
        idle = (np.flatnonzero(~self._asked[start:stop])[:lacking] + start).tolist()
        if len(idle) == lacking:
            stop = idle[-1] + 1
        self._asked[start:stop] = False
        self.forget([key for key in [self._keys[place] for place in idle] if key is not None])
        self._hand = stop if stop < self.arrays.room else 1
