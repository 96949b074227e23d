"""Results given to a function of the user: at least once, before each commit.

What failed to commit is given again. Rows that the function raises on are found by halving and set aside;
where it raises `StorageFailed`, all of them wait and are given again. `Batch` says which rows they are: whoever
keeps the last offset of each stage and partition can tell what was there before, if no join or repartition
comes before the function.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from penstock.core.errors import ConfigurationError, StorageFailed
from penstock.log.records import TopicPartition
from penstock.streams.feeds.calls import CallReader
from penstock.streams.feeds.reading import Reader
from penstock.streams.isolating import TRIES_MAX, FailedRow, refused
from penstock.streams.operator import Moment
from penstock.streams.outputs import NOTHING, Outlet, OutputConfig, Put, visible
from penstock.streams.panics import panics_as_errors
from penstock.streams.sinks import OutputPlace

__all__ = ["Batch", "CallableSink"]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Where rows come from: the least and greatest offset of the events that they came of.

    In a stage behind a join or repartition the events are those of the stream's own topic, of several
    partitions, each of which has its number times 2**48 added; rows of a closed window have -1 there.
    """

    stage: str
    partition: int
    first_offset: int
    last_offset: int


@dataclass(frozen=True)
class CallableSink:
    """A function of a frame, and if it takes one, of a `Batch`; or, as a source, of a position."""

    function: Callable[..., object]

    def __post_init__(self) -> None:
        if inspect.iscoroutinefunction(self.function):
            raise ConfigurationError(
                f"{self.title} is no plain function", hint="give a function of a polars.DataFrame"
            )

    @property
    def title(self) -> str:
        return getattr(self.function, "__qualname__", type(self.function).__name__)

    def output(self, place: OutputPlace) -> OutputConfig:
        try:
            takes_batch = len(inspect.signature(self.function).parameters) > 1
        except ValueError:
            takes_batch = False
        return _CallableOutput(sink=self, stage=place.stage, takes_batch=takes_batch)

    def reader(self, columns: Mapping[str, pl.DataType]) -> Reader:
        return CallReader(self.function, self.title, columns)


@dataclass(frozen=True, kw_only=True)
class _CallableOutput:
    sink: CallableSink
    stage: str
    takes_batch: bool

    def build(self, source: TopicPartition, state: bytes | None) -> Outlet:  # noqa: ARG002 - it has none
        return _CallableOutlet(self, source)


class _CallableOutlet:
    calls_function = True

    def __init__(self, config: _CallableOutput, source: TopicPartition) -> None:
        self._config = config
        self._partition = source.partition

    def put(self, frame: pl.DataFrame, moment: Moment, idle: bool) -> Put:  # noqa: ARG002 - as outlets have it
        """In the order of the rows, also where a part of them is halved. Raises `StorageFailed`."""
        failed: list[FailedRow] = []
        open_ranges = [(0, frame.height)] if frame.height else []
        tries = 0
        while open_ranges:
            start, end = open_ranges.pop()
            tries += 1
            error = self._call(frame[start:end])
            if error is None:
                continue
            if end - start > 1 and tries < TRIES_MAX:
                middle = (start + end) // 2
                open_ranges += [(middle, end), (start, middle)]
            else:
                failed += refused(frame, (start, end), error, tries=tries)
        return Put(failed=failed) if failed else NOTHING

    def _call(self, rows: pl.DataFrame) -> BaseException | None:
        """What the function raised on these rows."""
        config = self._config
        offsets = rows.get_column("_offset")
        batch = Batch(
            stage=config.stage,
            partition=self._partition,
            first_offset=int(offsets.min()),  # type: ignore[arg-type]
            last_offset=int(offsets.max()),  # type: ignore[arg-type]
        )
        given = (visible(rows), batch) if config.takes_batch else (visible(rows),)
        try:
            with panics_as_errors():
                config.sink.function(*given)
        except StorageFailed as error:
            raise StorageFailed(f"{config.sink.title}: {error.message}", hint=error.hint) from error
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            return error
        return None

    def tick(self, now_ms: int) -> Put:  # noqa: ARG002 - nothing is ever due
        return NOTHING

    def take_changes(self) -> bytes:
        return b""

    def apply_changes(self, changes: bytes) -> None:
        assert not changes, "an outlet without state has no changes"

    def snapshot(self) -> bytes:
        return b""

    def recover(self, committed: Sequence[str]) -> None:
        """What was committed was called before."""
