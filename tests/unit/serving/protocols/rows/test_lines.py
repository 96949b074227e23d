"""Lines as Python's own splitting makes them, however the bytes are cut."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from penstock.serving.protocols.rows.lines import LineSplitter


def cut(content: bytes, places: list[int]) -> list[bytes]:
    bounds = [0, *sorted(place % (len(content) + 1) for place in places), len(content)]
    return [content[start:stop] for start, stop in itertools.pairwise(bounds)]


@given(st.text("ab\n\r", max_size=40).map(str.encode), st.lists(st.integers(0, 40), max_size=6))
def test_lines_do_not_depend_on_the_cuts(content: bytes, places: list[int]) -> None:
    splitter = LineSplitter(line_bytes_max=5)
    found = [line for piece in cut(content, places) for line in splitter.feed(piece)] + splitter.end()
    expected = content.split(b"\n")
    if expected[-1] == b"":
        expected.pop()
    assert [line.number for line in found] == list(range(1, len(expected) + 1))
    assert [line.content for line in found] == [each if len(each) <= 5 else None for each in expected]


def test_no_more_than_a_line_is_held() -> None:
    splitter = LineSplitter(line_bytes_max=100)
    for _ in range(1000):
        assert splitter.feed(b"x" * 100) == []
        assert len(splitter._begun) <= 100
    assert [line.content for line in splitter.feed(b"\nab\n")] == [None, b"ab"]
