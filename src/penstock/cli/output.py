"""What commands print: data to stdout, everything else to stderr."""

import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

import msgspec

from penstock.core.errors import PenstockError

__all__ = ["print_error", "print_json", "print_table", "print_text", "say"]


def print_json(value: object) -> None:
    """A value as JSON on stdout."""
    encoded: bytes = msgspec.json.format(msgspec.json.encode(value), indent=2)
    print_text(encoded.decode())


def print_text(text: str) -> None:
    """A line of data on stdout."""
    _write(sys.stdout, text + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Data as a table on stdout."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    console = Console()
    with console.capture() as printed:
        console.print(table)
    _write(sys.stdout, printed.get())


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
