"""Values that still lie end to end, as they were written: they are cut when somebody wants them.

Who decodes a frame after another then has each value in the processor's cache, where those of a whole batch
would have left it; and who only counts or copies them cuts nothing.
"""

import io
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, chain
from typing import overload

import numpy as np
import numpy.typing as npt

__all__ = ["PackedValues", "Run"]

LINE_BREAK = ord("\n")


@dataclass(frozen=True, slots=True)
class Run:
    """Values in `payload`: each from one of the `bounds` to the next."""

    payload: bytes
    bounds: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.bounds) - 1

    @classmethod
    def of_lines(cls, lines: bytes) -> "Run":
        """The lines, each of which has a line break at its end and none within it."""
        breaks = np.flatnonzero(np.frombuffer(lines, dtype=np.uint8) == LINE_BREAK)
        bounds = np.zeros(len(breaks) + 1, dtype=np.int64)
        np.subtract(breaks, np.arange(len(breaks)), out=bounds[1:])
        return cls(lines.replace(b"\n", b""), bounds)

    def whole(self) -> memoryview:
        """All of them, end to end."""
        return memoryview(self.payload)[int(self.bounds[0]) : int(self.bounds[-1])]

    def cut(self) -> list[bytes]:
        # Reading a stream piece by piece is the quickest way there is to cut bytes: 0.03 µs a piece, where
        # slices in a comprehension take 0.09.
        stream = io.BytesIO(self.payload)
        stream.seek(int(self.bounds[0]))
        return list(map(stream.read, np.diff(self.bounds).tolist()))


class PackedValues(Sequence[bytes]):
    """Of runs, one after the other. A slice is packed, too; asked for a single one, it cuts all, once."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = tuple(runs)
        self._begins = list(accumulate(map(len, runs), initial=0))

    @classmethod
    def joined(cls, several: Sequence["PackedValues"]) -> "PackedValues":
        """One after the other."""
        return cls([run for each in several for run in each.runs])

    @property
    def size_bytes(self) -> int:
        return sum(int(run.bounds[-1] - run.bounds[0]) for run in self.runs)

    def lengths(self) -> npt.NDArray[np.int64]:
        return np.concatenate([np.empty(0, dtype=np.int64), *(np.diff(run.bounds) for run in self.runs)])

    def __len__(self) -> int:
        return self._begins[-1]

    def __iter__(self) -> Iterator[bytes]:
        return chain.from_iterable(map(Run.cut, self.runs))

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[bytes]: ...

    def __getitem__(self, index: int | slice) -> bytes | Sequence[bytes]:
        if not isinstance(index, slice):
            return self._cut[index]
        start, stop, step = index.indices(len(self))
        return self._cut[index] if step != 1 else PackedValues(list(self._between(start, stop)))

    def __eq__(self, other: object) -> bool:
        """Whether they are the same values, however they are kept."""
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment] # as lists have none

    def __repr__(self) -> str:
        return f"PackedValues({list(self)!r})"

    @cached_property
    def _cut(self) -> list[bytes]:
        return list(self)

    def _between(self, start: int, stop: int) -> Iterator[Run]:
        place = bisect_right(self._begins, start) - 1
        while start < stop:
            run, begin = self.runs[place], self._begins[place]
            end = min(stop, begin + len(run))
            yield Run(run.payload, run.bounds[start - begin : end - begin + 1])
            start, place = end, place + 1
