"""What a batch is made of on its way in and out: chunks of rows from lines or record batches, and answers."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import msgspec

from penstock.core.arrow.arrow_messages import ArrowMessages
from penstock.core.errors import InvalidInput, PenstockError
from penstock.core.signature import Signature
from penstock.core.tensors import Tensors, row_count, slice_rows
from penstock.serving.batching.outputs import BatchRows
from penstock.serving.protocols.rows.answers import RowsEncoder
from penstock.serving.protocols.rows.arrow import MESSAGE_BYTES_MAX, ArrowDecoder
from penstock.serving.protocols.rows.arrow_answers import ArrowEncoder
from penstock.serving.protocols.rows.decoder import RowsDecoder
from penstock.serving.protocols.rows.fields import InvalidRows
from penstock.serving.protocols.rows.lines import Line, LineSplitter

__all__ = ["ArrowSink", "ArrowSource", "Chunk", "LinesSink", "LinesSource", "Sink", "Source"]

LINE_BYTES_MAX = 4 * 1024 * 1024
CHUNK_LINES_MAX = 256
"""Lines are decoded in the event loop, where a chunk of them must not hold up other requests."""
CHUNK_BYTES_MAX = 1024 * 1024

_encode = msgspec.json.Encoder().encode


class Chunk(Protocol):
    """Some rows. `number` is that of its first, counted from 1."""

    number: int
    rows: int

    def tensors(self) -> Tensors:
        """Its inputs. Raises `InvalidInput`."""
        ...

    def apart(self) -> "Sequence[Chunk]":
        """Each of its rows for itself."""
        ...

    def explain(self, error: PenstockError) -> PenstockError:
        """A better error for its only row, where there is one."""
        ...


class Source(Protocol):
    """Fed with bytes, gives chunks."""

    def feed(self, data: bytes) -> Iterator[Chunk]:
        """Raises `InvalidInput` where the stream itself is broken."""
        ...

    def end(self) -> Iterator[Chunk]: ...


class Sink(Protocol):
    """Turns answers into the bytes of one answer. `by_row` says that it has a place for a row's error."""

    content_type: str
    by_row: bool

    def encode(self, answer: BatchRows) -> bytes: ...

    def error(self, number: int, error: PenstockError) -> bytes:
        """What stands in the place of the row `number`."""
        ...

    def end(self) -> bytes: ...


class LinesSource:
    """NDJSON: each line a record by column or a list in the order of the columns."""

    def __init__(self, decoder: RowsDecoder, *, rows_max: int) -> None:
        self._decoder = decoder
        self._rows_max = min(rows_max, CHUNK_LINES_MAX)
        self._splitter = LineSplitter(line_bytes_max=LINE_BYTES_MAX)

    def feed(self, data: bytes) -> Iterator[Chunk]:
        return self._chunks(self._splitter.feed(data))

    def end(self) -> Iterator[Chunk]:
        return self._chunks(self._splitter.end())

    def _chunks(self, lines: list[Line]) -> Iterator[Chunk]:
        chunk: list[Line] = []
        chunk_bytes = 0
        for line in lines:
            size = len(line.content or b"")
            if chunk and (len(chunk) >= self._rows_max or chunk_bytes + size > CHUNK_BYTES_MAX):
                yield _LinesChunk(self._decoder, chunk)
                chunk, chunk_bytes = [], 0
            chunk.append(line)
            chunk_bytes += size
        if chunk:
            yield _LinesChunk(self._decoder, chunk)


class _LinesChunk:
    __slots__ = ("_decoder", "_lines", "number", "rows")

    def __init__(self, decoder: RowsDecoder, lines: list[Line]) -> None:
        self._decoder = decoder
        self._lines = lines
        self.number = lines[0].number
        self.rows = len(lines)

    def tensors(self) -> Tensors:
        contents = [line.content for line in self._lines if line.content]
        if len(contents) < len(self._lines):
            if self._lines[0].content is None:
                raise InvalidInput(f"the line has more than {LINE_BYTES_MAX} bytes", where="line")
            raise InvalidInput("the line is empty", where="line")
        return self._decoder.decode_lines(contents)

    def apart(self) -> "Sequence[Chunk]":
        return [_LinesChunk(self._decoder, [line]) for line in self._lines]

    def explain(self, error: PenstockError) -> PenstockError:
        content = self._lines[0].content
        if content and not isinstance(error, InvalidRows):
            try:
                self._decoder.decode_line(content)
            except InvalidInput as better:
                return better
        return error


class ArrowSource:
    """An Arrow IPC stream."""

    def __init__(self, signature: Signature, *, rows_max: int) -> None:
        self._messages = ArrowMessages(message_bytes_max=MESSAGE_BYTES_MAX)
        self._decoder = ArrowDecoder(signature)
        self._rows_max = rows_max
        self._number = 1

    def feed(self, data: bytes) -> Iterator[Chunk]:
        for message in self._messages.feed(data):
            tensors = self._decoder.decode(message)
            if tensors is not None:
                yield from self._chunks(tensors)

    def end(self) -> Iterator[Chunk]:
        self._messages.finish()
        self._decoder.finish()
        yield from ()

    def _chunks(self, tensors: Tensors) -> Iterator[Chunk]:
        rows = row_count(tensors)
        for start in range(0, rows, self._rows_max):
            yield _TensorsChunk(
                slice_rows(tensors, start, min(rows, start + self._rows_max)), self._number + start
            )
        self._number += rows


class _TensorsChunk:
    __slots__ = ("_tensors", "number", "rows")

    def __init__(self, tensors: Tensors, number: int) -> None:
        self._tensors = tensors
        self.number = number
        self.rows = row_count(tensors)

    def tensors(self) -> Tensors:
        return self._tensors

    def apart(self) -> "Sequence[Chunk]":
        return [
            _TensorsChunk(slice_rows(self._tensors, row, row + 1), self.number + row)
            for row in range(self.rows)
        ]

    def explain(self, error: PenstockError) -> PenstockError:
        return error


class LinesSink:
    """NDJSON: a record by output name for each row, or `{"error": …, "line": …}` in its place."""

    content_type = "application/x-ndjson"
    by_row = True

    def __init__(self, encoder: RowsEncoder) -> None:
        self._encoder = encoder

    def encode(self, answer: BatchRows) -> bytes:
        return b"\n".join((*self._encoder.lines(answer), b""))

    def error(self, number: int, error: PenstockError) -> bytes:
        said: dict[str, object] = {"error": _text(error), "line": number}
        if isinstance(error, InvalidRows):
            said["fields"] = [
                {"column": each.column, "expected": each.expected, "got": each.got} for each in error.fields
            ]
        return _encode(said) + b"\n"

    def end(self) -> bytes:
        return b""


class ArrowSink:
    """An Arrow IPC stream, which has no place for the error of a row: the first one ends the batch."""

    content_type = ArrowEncoder.content_type
    by_row = False

    def __init__(self, signature: Signature) -> None:
        self._encoder = ArrowEncoder(signature)

    def encode(self, answer: BatchRows) -> bytes:
        return self._encoder.encode(answer)

    def error(self, number: int, error: PenstockError) -> bytes:
        error.message = f"row {number}: {error.message}"
        raise error

    def end(self) -> bytes:
        return self._encoder.end()


def _text(error: PenstockError) -> str:
    if isinstance(error, InvalidRows):
        first, *more = error.fields
        said = f" (and {len(more)} more)" if more else ""
        return f"{first.column}: expected {first.expected}, got {first.got}{said}"
    return f"{error.message}; {error.hint}" if error.hint else error.message
