"""What commands print: data to stdout, everything else to stderr."""

import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

import msgspec

from penstock.core.errors import PenstockError

__all__ = ["column_widths", "print_error", "print_json", "print_table", "print_text", "say"]

GAP = 2
PROSE_WIDTH_MIN = 24
"""A column of words is not made narrower than that."""


def print_json(value: object) -> None:
    """A value as JSON on stdout."""
    encoded: bytes = msgspec.json.format(msgspec.json.encode(value), indent=2)
    print_text(encoded.decode())


def print_text(text: str) -> None:
    """A line of data on stdout."""
    _write(sys.stdout, text + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Data as a table on stdout.

    On a terminal columns of several words are broken between these where a line would be longer than it is.
    Names and numbers are never broken: they are there to be copied. In a file or pipe each row is a line.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
    console = Console()
    widths = column_widths(columns, cells, console.width if console.is_terminal else None)
    console.width = sum(widths) + GAP * len(widths)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column, width in zip(columns, widths, strict=True):
        table.add_column(column, width=width, overflow="fold")
    for row in cells:
        table.add_row(*map(Text, row))
    with console.capture() as printed:
        console.print(table)
    _write(sys.stdout, "".join(line.rstrip() + "\n" for line in printed.get().splitlines()))


def column_widths(columns: Sequence[str], cells: Sequence[Sequence[str]], line: int | None) -> list[int]:
    """How wide each column is, on lines of so many characters; None: as many as it takes."""
    from rich.cells import cell_len

    widest, least = [], []
    for number, column in enumerate(columns):
        texts = [column, *(row[number] for row in cells)]
        whole = max((cell_len(part) for text in texts for part in text.splitlines()), default=0)
        word = max((cell_len(part) for text in texts for part in text.split()), default=0)
        widest.append(whole)
        least.append(min(whole, max(word, PROSE_WIDTH_MIN)))
    if line is None or sum(widest) + GAP * (len(widest) - 1) <= line:
        return widest
    # What is left beyond the least goes to those who want more, by how much they do.
    left = max(line - GAP * (len(least) - 1) - sum(least), 0)
    wanted = sum(widest) - sum(least)
    return [
        low + (high - low) * left // wanted if wanted else low for low, high in zip(least, widest, strict=True)
    ]


def say(text: str) -> None:
    """A line on stderr, for whoever watches."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def print_error(error: PenstockError) -> None:
    say(f"error: {error.message}")
    if error.hint:
        say(f"hint: {error.hint}")


def _write(stream: TextIO, text: str) -> None:
    """Writes through to the reader. One that has gone (`penstock model list | head`) is no error of ours."""
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        # What is still buffered goes nowhere, or Python would complain of it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        sys.exit(0)
