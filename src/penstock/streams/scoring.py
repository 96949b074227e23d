"""Rows given to a model, and what it answers as columns beside them.

A row that the model cannot take becomes a dead letter, like one on which a function raises; where the model
answers nobody, as its process is down, all rows wait for it.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import polars as pl

from penstock.core.errors import (
    ConfigurationError,
    DeadlineExceeded,
    InvalidInput,
    PenstockError,
    StorageFailed,
)
from penstock.log.records import TopicPartition
from penstock.streams.encoding import encoder_of
from penstock.streams.frame_records import OFFSET_BITS
from penstock.streams.isolating import Attempted, Transformed, attempt, isolate
from penstock.streams.operator import OFFSET, TIME
from penstock.streams.plan import StagePlan
from penstock.streams.transforming import Transform, empty_frame

__all__ = [
    "MODEL_RUNG",
    "MODEL_VERSION",
    "PREDICTION_ID",
    "Inputs",
    "Place",
    "Placed",
    "Score",
    "Scorer",
    "Scores",
    "placed",
]

PREDICTION_ID = "prediction_id"
"""The same for the same event and model, whenever it is scored: it is made of the event's place."""
MODEL_VERSION = "model_version"
MODEL_RUNG = "model_rung"
"""What answered in the model's place; null where the model itself did."""
Inputs = Mapping[str, str | Sequence[str]]
"""By a model's input the column that it is, or those that are the columns of a matrix. What is not named is the
column of its name.
"""
ID_BYTES = 12
_OWN = (PREDICTION_ID, MODEL_VERSION, MODEL_RUNG)


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What a model gave for the rows of a frame: outputs by name, the version, and the rung that answered
    in the model's place, if one did.
    """

    outputs: Mapping[str, pl.Series]
    version: str
    rung: str | None


class Scorer(Protocol):
    """Who has the models. Called by the thread of the engine, which it blocks."""

    def score(self, model: str, frame: pl.DataFrame, inputs: Inputs, wanted: Collection[str]) -> Scores:
        """With those of the outputs that are `wanted`, as far as the model gives them.

        Raises `InvalidInput` for rows that do not fit the model, `StorageFailed` where it answers nobody at the
        moment, and what it raises else.
        """
        ...

    def answers(self, model: str) -> bool | None:
        """Whether the model, after it has failed, answers what it is known to answer: then the rows are at
        fault. None where nothing is known.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the rows of a transform are from: a partition of the events' topic. `internal`: their offsets have
    the partition above them. `made`: they are no events.
    """

    topic: str
    partition: int
    internal: bool
    made: bool


@runtime_checkable
class Placed(Protocol):
    """A transform that is another one in each partition."""

    def placed(self, place: Place) -> Transform: ...


@dataclass(frozen=True, kw_only=True)
class Score:
    """`outputs` are the model's that are wanted, with their types."""

    model: str
    inputs: Inputs
    outputs: Mapping[str, pl.DataType]
    scorer: Scorer

    def build(self, schema: pl.Schema) -> "_Scored":
        """Raises `ConfigurationError` for columns that the stream has already."""
        for name in (*_OWN, *self.outputs):
            if name in schema:
                raise ConfigurationError(
                    f"score({self.model!r}): the stream has a column {name!r} already",
                    hint="rename it before: stream.rename({...})",
                )
        own = {PREDICTION_ID: pl.String(), MODEL_VERSION: pl.String(), MODEL_RUNG: pl.String()}
        return _Scored(self, pl.Schema({**schema, **own, **self.outputs}), None)


class _Scored:
    """Tried on the whole frame first."""

    def __init__(self, config: Score, schema: pl.Schema, place: Place | None) -> None:
        self.schema = schema
        self._config = config
        self._place = place

    def placed(self, place: Place) -> Transform:
        return _Scored(self._config, self.schema, place)

    def apply(self, frame: pl.DataFrame) -> Transformed:
        """Raises `StorageFailed` where the model answers nobody, so that all rows wait, and `DeadlineExceeded`
        where it takes too long for so many.
        """
        if frame.is_empty():
            return Transformed(frame=empty_frame(self.schema))
        result = self._try(frame)
        if isinstance(result, pl.DataFrame):
            return Transformed(frame=result)
        proven = isinstance(result, InvalidInput) or self._config.scorer.answers(self._config.model)
        if proven is False:
            raise self._waiting(result)
        first = [result]  # it is known already

        def work(pieces: Sequence[pl.DataFrame]) -> list[Attempted]:
            return [first.pop() if first else self._try(piece) for piece in pieces]

        done = isolate(frame, work, empty=empty_frame(self.schema))
        if proven is None and done.frame.is_empty():
            # That it answers at all is not known yet: nothing tells whether the rows are at fault.
            raise self._waiting(result)
        return done

    def _try(self, frame: pl.DataFrame) -> Attempted:
        result = attempt(self._scored, frame)
        if isinstance(result, DeadlineExceeded) and self._place is not None and self._place.made:
            raise self._waiting(result)  # there are no records of which there could be fewer
        if isinstance(result, StorageFailed | DeadlineExceeded):
            raise result
        return result

    def _waiting(self, error: BaseException) -> StorageFailed:
        said = error.message if isinstance(error, PenstockError) else f"{type(error).__name__}: {error}"
        return StorageFailed(
            f"model {self._config.model!r} answers nobody: {said}", hint="its rows wait until it does"
        )

    def _scored(self, frame: pl.DataFrame) -> pl.DataFrame:
        config = self._config
        scores = config.scorer.score(config.model, frame, config.inputs, config.outputs)
        height = frame.height
        own = [
            self._ids(frame),
            pl.Series(MODEL_VERSION, [scores.version], pl.String()).new_from_index(0, height),
            pl.Series(MODEL_RUNG, [scores.rung], pl.String()).new_from_index(0, height),
        ]
        outputs = [
            _as_declared(scores.outputs, name, dtype, config.model) for name, dtype in config.outputs.items()
        ]
        first, *others = [column for column in frame.get_columns() if column.name not in (TIME, OFFSET)]
        # Column by column: a plan of Polars costs a small frame as much as a small model does.
        return first.to_frame().hstack(
            [*others, *own, *outputs, frame.get_column(TIME), frame.get_column(OFFSET)]
        )

    def _ids(self, frame: pl.DataFrame) -> pl.Series:
        place = self._place
        assert place is not None, "a stage places its transforms"
        before = f"{self._config.model}/{place.topic}"
        offsets = frame.get_column(OFFSET)
        if place.made:
            ids = [f"{before}/made/{digest}" for digest in _digests(frame)]
        elif place.internal:
            # A join may have made several rows of an event.
            events = [divmod(offset, 1 << OFFSET_BITS) for offset in offsets.to_list()]
            ids = [
                f"{before}/{partition}/{offset}-{digest}"
                for (partition, offset), digest in zip(events, _digests(frame), strict=True)
            ]
        else:
            column = f"{before}/{place.partition}/" + offsets.cast(pl.String)
            if offsets.n_unique() == len(offsets):
                return column.alias(PREDICTION_ID)
            ids = _told_apart(column.to_list())
        return pl.Series(PREDICTION_ID, ids, pl.String())


def _digests(frame: pl.DataFrame) -> list[str]:
    """Of each row, with its time."""
    times = frame.get_column(TIME).to_list()
    rows = encoder_of("msgpack").encode(frame)
    return [
        hashlib.blake2b(row, digest_size=ID_BYTES, salt=time.to_bytes(8, "little", signed=True)).hexdigest()
        for time, row in zip(times, rows, strict=True)
    ]


def _told_apart(ids: list[str]) -> list[str]:
    """Those of an event of which a function made several rows, which stand in one frame, by their number."""
    seen: dict[str, int] = {}
    apart = []
    for each in ids:
        count = seen[each] = seen.get(each, 0) + 1
        apart.append(each if count == 1 else f"{each}-{count}")
    return apart


def placed(transform: Transform, plan: StagePlan, source: TopicPartition, *, made: bool) -> Transform:
    """The transform as it is in a partition of a stage; `made`: of rows that are no events."""
    if not isinstance(transform, Placed):
        return transform
    return transform.placed(
        Place(topic=plan.events_topic, partition=source.partition, internal=plan.internal, made=made)
    )


def _as_declared(outputs: Mapping[str, pl.Series], name: str, dtype: pl.DataType, model: str) -> pl.Series:
    """Raises `StorageFailed` for an output that there is not, or of another kind: no row is at fault; and
    `InvalidInput` for a value that the declared type cannot hold.
    """
    output = outputs.get(name)
    if output is None:
        raise StorageFailed(f"model {model!r} gives no output {name!r}", hint="name outputs that it has")
    if _kind(output.dtype) != _kind(dtype):
        raise StorageFailed(
            f"output {name!r} of model {model!r} is of {output.dtype}, declared is {dtype}",
            hint="declare it as it is: score(outputs={...})",
        )
    try:
        return output.alias(name) if output.dtype == dtype else output.cast(dtype).alias(name)
    except pl.exceptions.PolarsError as error:
        raise InvalidInput(f"output {name!r}: {str(error).partition(chr(10))[0]}", where=name) from error


def _kind(dtype: pl.DataType) -> str:
    if isinstance(dtype, pl.List | pl.Array):
        return f"list of {_kind(dtype.inner)}"  # type: ignore[arg-type]
    return "number" if dtype.is_numeric() or isinstance(dtype, pl.Boolean) else str(dtype.base_type())
