"""Rows that a function of the user gives, with positions of its own."""

from collections.abc import Callable, Iterator, Mapping

import msgspec
import polars as pl

from penstock.core.errors import InvalidInput
from penstock.streams.feeds.reading import Chunk, known_columns

__all__ = ["CallReader"]


class CallReader:
    """The function is given the last position, None at first, and yields pairs of a position and a frame, in an
    order that stays. When it has ended it is called again, later, with the last position.
    """

    calls_function = True

    def __init__(
        self,
        function: Callable[..., object],
        title: str,
        columns: Mapping[str, pl.DataType],
    ) -> None:
        self._function = function
        self._title = title
        self._columns = columns
        self._position: object = None
        self._iterator: Iterator[object] | None = None

    def read(self, position: object, rows_max: int) -> Chunk | None:  # noqa: ARG002 - what it yields is whole
        try:
            if self._iterator is None or position != self._position:
                self._iterator = iter(self._function(position))  # type: ignore[call-overload]
            given = next(self._iterator, None)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self._iterator = None
            raise InvalidInput(
                f"source {self._title} raised {type(error).__name__}: {error}",
                hint="it is called again with the last position",
            ) from error
        if given is None:
            self._iterator = None
            return None
        try:
            chunk = self._chunk(given)
        except InvalidInput:
            self._iterator = None
            raise
        self._position = chunk.position
        return chunk

    def _chunk(self, given: object) -> Chunk:
        if not (isinstance(given, tuple) and len(given) == 2 and isinstance(given[1], pl.DataFrame)):
            raise InvalidInput(
                f"source {self._title} gave {type(given).__name__}",
                hint="it yields pairs of a position and a polars.DataFrame",
            )
        position, frame = given
        try:
            # As it comes back after a restart.
            kept = msgspec.json.decode(msgspec.json.encode(position))
        except TypeError as error:
            raise InvalidInput(
                f"source {self._title} gave a position that is no JSON: {error}", hint="a number, text, list"
            ) from error
        if kept is None:
            raise InvalidInput(f"source {self._title} gave the position None", hint="that is the beginning")
        if frame.height:
            frame = frame.select(known_columns(frame.columns, self._columns, f"source {self._title}"))
        return Chunk(frame=frame, position=kept)
