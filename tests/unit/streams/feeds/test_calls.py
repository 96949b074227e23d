"""Rows of a function, by its own positions."""

from collections.abc import Iterator

import polars as pl
import pytest

from penstock.core.errors import InvalidInput
from penstock.streams.calling import CallableSink
from penstock.streams.feeds.reading import Reader

PAGES = [[1, 2], [], [3], [4, 5, 6]]
asked: list[object] = []


def pages(position: object) -> Iterator[tuple[object, pl.DataFrame]]:
    asked.append(position)
    begin = 0 if position is None else position[0]  # type: ignore[index]
    for number, page in enumerate(PAGES[begin:], start=begin + 1):
        yield (number,), pl.DataFrame({"number": page, "other": page})


def reader_of(function: object) -> Reader:
    return CallableSink(function).reader({"number": pl.Int64()})  # type: ignore[arg-type]


def test_its_pages_once_in_order() -> None:
    asked.clear()
    reader = reader_of(pages)
    found, position = [], None
    while (chunk := reader.read(position, 1)) is not None:
        found.append(chunk.frame["number"].to_list())
        assert not chunk.frame.height or chunk.frame.columns == ["number"]
        position = chunk.position
    assert found == PAGES
    assert position == [4]
    assert asked == [None], "it is called once while nothing fails"
    assert reader.read(position, 1) is None
    assert asked == [None, [4]]


def test_from_another_position_it_is_called_again() -> None:
    reader = reader_of(pages)
    first = reader.read(None, 1)
    again = reader.read(None, 1)
    assert first is not None
    assert again is not None
    assert first.frame.equals(again.frame)


def test_what_it_does_wrong_is_told() -> None:
    def raises(position: object) -> Iterator[object]:
        raise OSError("no network")
        yield

    def nothing(position: object) -> None: ...

    for function, said in (
        (raises, "raised OSError: no network"),
        (nothing, "raised TypeError"),
        (lambda position: iter([5]), "gave int"),
        (lambda position: iter([(object(), pl.DataFrame())]), "no JSON"),
        (lambda position: iter([(None, pl.DataFrame())]), "position None"),
        (lambda position: iter([(1, pl.DataFrame({"x": [1]}))]), "none of the stream's columns"),
    ):
        with pytest.raises(InvalidInput, match=said):
            reader_of(function).read(None, 1)
