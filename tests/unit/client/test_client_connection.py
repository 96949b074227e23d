"""A connection without a socket: however the bytes are cut, the answer is the same; nonsense is told."""

import asyncio
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.client.connection import BrokenOff, Connection, GarbledHttp, HttpResponse

LENGTH = b"HTTP/1.1 200 OK\r\nX-Shed-Reason: a\r\ncontent-length: 5\r\n\r\nhello"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nx-shed-reason: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"
)
CONTINUED = b"HTTP/1.1 100 Continue\r\nx-other: b\r\n\r\n" + LENGTH
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\nx-shed-reason: a\r\n\r\nhello"


class Wire:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    abort = close


def exchange(pieces: list[bytes], *, lost: bool = False, body_bytes_max: int = 100) -> tuple[Any, Connection]:
    """What becomes of a request that is answered with these pieces, and the connection."""

    async def run() -> tuple[Any, Connection]:
        connection = Connection(body_bytes_max=body_bytes_max, open_ones=set())
        connection.connection_made(Wire())  # type: ignore[arg-type]
        answer = connection.send(b"GET")
        for piece in pieces:
            connection.data_received(piece)
        if lost:
            connection.connection_lost(None)
        if not answer.done():
            return None, connection
        return answer.exception() or answer.result(), connection

    return asyncio.run(run())


@given(st.sampled_from([LENGTH, CHUNKED, CONTINUED]), st.lists(st.integers(1, 120)))
def test_however_the_bytes_are_cut(whole: bytes, cuts: list[int]) -> None:
    places = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    pieces = [whole[start:stop] for start, stop in itertools.pairwise(places)]
    response, connection = exchange(pieces)
    assert isinstance(response, HttpResponse)
    assert (response.status, response.body, response.headers[b"x-shed-reason"]) == (200, b"hello", b"a")
    assert b"x-other" not in response.headers
    assert connection.reusable
    assert exchange(pieces[:-1])[0] is None


def test_an_answer_up_to_the_end_of_the_connection() -> None:
    assert exchange([UNTIL_CLOSE])[0] is None
    response, connection = exchange([UNTIL_CLOSE], lost=True)
    assert response.body == b"hello"
    assert not connection.reusable


@pytest.mark.parametrize("cut", [b"", b"HTTP/1.1 2", LENGTH[:-1], LENGTH[:30], CHUNKED[:-2]])
def test_one_that_breaks_off(cut: bytes) -> None:
    error, connection = exchange([cut] if cut else [], lost=True)
    assert isinstance(error, BrokenOff)
    assert ("before an answer" in str(error)) == (b"\r\n\r\n" not in cut)
    assert not connection.reusable


@pytest.mark.parametrize(
    "garbage",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x16\x03\x01\x02\x00",
        b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: " + b"y" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 101\r\n\r\n" + b"x" * 101,
        b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
    ],
)
def test_garbage(garbage: bytes) -> None:
    error, connection = exchange([garbage])
    assert isinstance(error, GarbledHttp), error
    assert not connection.reusable


def test_what_was_not_asked_for_ends_the_connection() -> None:
    _, connection = exchange([LENGTH, LENGTH])
    assert not connection.reusable
    _, connection = exchange([LENGTH + LENGTH])
    assert not connection.reusable


def test_a_server_that_wants_to_close_is_not_asked_again() -> None:
    response, connection = exchange([LENGTH.replace(b"OK\r\n", b"OK\r\nconnection: close\r\n")])
    assert response.body == b"hello"
    assert not connection.reusable


@given(st.lists(st.binary(max_size=200)))
def test_any_bytes_end_in_an_answer_or_an_error(pieces: list[bytes]) -> None:
    outcome, _ = exchange(pieces, lost=True)
    assert isinstance(outcome, HttpResponse | BrokenOff | GarbledHttp)
