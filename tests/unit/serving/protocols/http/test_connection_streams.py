"""Bodies that are read while they arrive, and answers sent piece by piece: no sockets."""

import asyncio
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_connection import GET, HEAD_200, Rig, post

from penstock.serving.protocols.http.messages import UNREAD_BYTES_MAX, BrokenBody, HttpHungUp

HEAD = b"POST /stream HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def chunk(data):
    return b"%x\r\n%b\r\n" % (len(data), data)


def run(coroutine):
    """Runs what must not have to wait."""

    async def soon():
        async with asyncio.timeout(5):
            return await coroutine

    return asyncio.run(soon())


async def settle():
    """Lets every task go on as far as it can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def read_all(stream):
    pieces = []
    while piece := await stream.read():
        pieces.append(piece)
    return b"".join(pieces)


def dechunk(framed):
    """The pieces of a chunked body that has its end, and what follows it: an oracle of its own."""
    pieces = []
    while True:
        size, _, framed = framed.partition(b"\r\n")
        count = int(size, 16)
        assert framed[count : count + 2] == b"\r\n"
        if count == 0:
            return pieces, framed[2:]
        pieces.append(framed[:count])
        framed = framed[count + 2 :]


def test_a_streamed_request_is_handled_when_its_head_is_there():
    rig = Rig()
    rig.feed(HEAD)
    (request,) = rig.requests
    assert request.body == b""

    async def read():
        reading = asyncio.ensure_future(request.body_stream.read())
        await settle()
        assert not reading.done()
        rig.feed(chunk(b"one"))
        assert await reading == b"one"
        rig.feed(chunk(b"two") + chunk(b"three"))
        assert await request.body_stream.read() == b"twothree"
        rig.feed(END)
        assert await request.body_stream.read() == b""
        assert await request.body_stream.read() == b""

    run(read())
    request.respond(HEAD_200, b"{}")
    assert rig.transport.written.endswith(b"content-length: 2\r\n\r\n{}")
    assert not rig.transport.closed
    rig.feed(GET)
    assert len(rig.requests) == 2


def test_a_request_that_no_one_streams_has_no_stream():
    rig = Rig()
    rig.feed(post(b"x"))
    assert rig.requests[0].body_stream is None


@given(st.binary(max_size=3000), st.data())
def test_however_a_streamed_body_is_cut_it_is_the_same_and_so_is_what_follows(body, data):
    rig = Rig()
    cuts = sorted(data.draw(st.sets(st.integers(0, len(body)), max_size=6)))
    pieces = [body[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    wire = HEAD + b"".join(chunk(piece) for piece in pieces if piece) + END + post(b"next")
    cuts = sorted(data.draw(st.sets(st.integers(1, len(wire)), max_size=6)))
    for start, stop in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        if start < stop:
            rig.feed(wire[start:stop])
    assert run(read_all(rig.requests[0].body_stream)) == body
    rig.requests[0].respond(HEAD_200, b"{}")
    assert rig.requests[1].body == b"next"
    assert rig.budget.used_bytes == len(b"next")


def test_a_body_may_pass_the_limit_of_whole_bodies_and_reading_pauses_while_it_is_not_read():
    rig = Rig()
    rig.budget._bytes_max = 10**9
    body = b"x" * (4 * UNREAD_BYTES_MAX)
    rig.feed(HEAD + b"%x\r\n" % len(body))
    sent = most = 0
    received = []

    async def read():
        nonlocal sent, most
        stream = rig.requests[0].body_stream
        while sum(map(len, received)) < len(body):
            while sent < len(body) and not rig.transport.reading_paused:
                rig.feed(body[sent : sent + 50_000])
                sent += 50_000
                most = max(most, rig.budget.used_bytes)
            received.append(await stream.read())
        rig.feed(b"\r\n" + END)
        assert await stream.read() == b""

    run(read())
    assert b"".join(received) == body
    assert UNREAD_BYTES_MAX < most <= UNREAD_BYTES_MAX + 16 * 1024
    assert rig.budget.used_bytes == 0
    assert not rig.transport.reading_paused


def test_what_is_unread_counts_against_what_the_server_may_hold():
    rig = Rig()
    rig.budget._bytes_max = 100
    rig.feed(HEAD + chunk(b"x" * 90) + chunk(b"y" * 20))

    async def read():
        stream = rig.requests[0].body_stream
        assert await stream.read() == b"x" * 90
        with pytest.raises(BrokenBody) as caught:
            await stream.read()
        assert caught.value.status == 503

    run(read())
    assert rig.budget.used_bytes == 0
    rig.requests[0].respond(HEAD_200, b"{}")
    assert b"connection: close" in rig.transport.written
    assert rig.transport.eof


def test_an_answer_before_the_body_has_come_ends_the_connection_and_the_rest_is_no_request():
    rig = Rig()
    rig.feed(HEAD + chunk(b"some"))
    rig.requests[0].respond(HEAD_200, b"{}")
    assert rig.transport.written.count(b"HTTP/1.1 ") == 1
    assert b"connection: close" in rig.transport.written
    assert rig.transport.eof
    assert not rig.transport.closed, "a reset would cost the client its answer"
    rig.feed(chunk(b"more") + END + GET)
    assert len(rig.requests) == 1
    assert rig.budget.used_bytes == 0
    rig.clock.advance(6)
    rig.connection.check(rig.clock.monotonic())
    assert rig.transport.aborted


def test_a_handler_that_answers_from_the_head_alone():
    rig = Rig()
    rig.handler.handle = lambda request: (rig.requests.append(request), request.respond(HEAD_200, b"{}"))
    rig.feed(HEAD + chunk(b"body") + END + GET)
    assert len(rig.requests) == 1
    assert rig.transport.written.count(b"HTTP/1.1 ") == 1


def test_a_body_that_was_discarded_is_never_taken_for_whole():
    rig = Rig()
    rig.feed(HEAD + chunk(b"some") + END)
    stream = rig.requests[0].body_stream
    rig.connection.connection_lost(None)
    with pytest.raises(BrokenBody):
        run(stream.read())
    assert rig.budget.used_bytes == 0


@pytest.mark.parametrize(("broken", "status"), [(b"nonsense\r\n", 400), (b"1;" + b"x" * 2000, 431)])
def test_a_body_that_breaks_off_is_told_to_its_reader_who_answers(broken, status):
    rig = Rig()
    rig.feed(HEAD + chunk(b"good"))
    rig.feed(broken)

    async def read():
        stream = rig.requests[0].body_stream
        assert await stream.read() == b"good"
        with pytest.raises(BrokenBody) as caught:
            await stream.read()
        assert caught.value.status == status

    run(read())
    assert rig.transport.written == b""
    rig.requests[0].respond(HEAD_200, b"{}")
    assert rig.transport.written.count(b"HTTP/1.1 ") == 1
    assert b"connection: close" in rig.transport.written
    assert rig.transport.eof


def test_between_two_pieces_there_is_only_so_long():
    rig = Rig()
    rig.feed(HEAD)
    for _ in range(5):
        rig.clock.advance(29)
        rig.connection.check(rig.clock.monotonic())
        rig.feed(chunk(b"x"))
    rig.clock.advance(31)
    rig.connection.check(rig.clock.monotonic())

    async def read():
        stream = rig.requests[0].body_stream
        assert await stream.read() == b"xxxxx"
        with pytest.raises(BrokenBody) as caught:
            await stream.read()
        assert caught.value.status == 408

    run(read())


def test_a_client_is_not_blamed_for_what_the_reader_leaves_unread():
    rig = Rig()
    rig.budget._bytes_max = 10**9
    rig.feed(HEAD + b"%x\r\n" % 10**6 + b"x" * (UNREAD_BYTES_MAX + 20_000))
    assert rig.transport.reading_paused
    rig.clock.advance(500)
    rig.connection.check(rig.clock.monotonic())
    assert run(rig.requests[0].body_stream.read())
    assert not rig.transport.reading_paused
    rig.connection.check(rig.clock.monotonic())
    assert rig.transport.written == b""
    assert not rig.transport.closed


def test_a_streamed_request_waits_for_the_ones_before_it():
    rig = Rig()
    rig.feed(GET + HEAD + chunk(b"body"))
    assert len(rig.requests) == 1
    rig.requests[0].respond(HEAD_200, b"{}")
    assert run(rig.requests[1].body_stream.read()) == b"body"
    rig.feed(END + GET)
    assert len(rig.requests) == 2
    rig.requests[1].respond(HEAD_200, b"{}")
    assert len(rig.requests) == 3


def test_one_that_breaks_off_while_it_waits_its_turn_is_refused_in_its_turn():
    rig = Rig()
    rig.feed(GET + HEAD + b"nonsense\r\n")
    rig.requests[0].respond(HEAD_200, b"{}")
    assert len(rig.requests) == 1
    assert re.findall(rb"HTTP/1.1 (\d+)", rig.transport.written) == [b"200", b"400"]


def test_a_client_that_asks_first_is_told_to_go_on_when_somebody_reads():
    rig = Rig()
    rig.feed(HEAD.replace(b"\r\n\r\n", b"\r\nexpect: 100-continue\r\n\r\n"))
    assert rig.transport.written == b""
    rig.clock.advance(500)
    rig.connection.check(rig.clock.monotonic())

    async def read():
        reading = asyncio.ensure_future(rig.requests[0].body_stream.read())
        await settle()
        assert rig.transport.written == b"HTTP/1.1 100 Continue\r\n\r\n"
        rig.feed(chunk(b"x"))
        assert await reading == b"x"

    run(read())


def test_an_answer_in_pieces():
    rig = Rig()
    rig.feed(GET + post(b"next"))
    request = rig.requests[0]
    request.begin(HEAD_200)

    async def send():
        for piece in (b"one", b"", b"t" * 300):
            await request.send(piece)

    run(send())
    assert len(rig.requests) == 1
    request.finish()
    head, _, framed = rig.transport.written.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"transfer-encoding: chunked" in head
    assert b"content-length" not in head
    assert dechunk(framed) == ([b"one", b"t" * 300], b"")
    assert rig.requests[1].body == b"next"
    rig.requests[1].respond(HEAD_200, b"{}")
    assert not rig.transport.closed


def test_an_answer_in_pieces_to_http_1_0_ends_with_its_connection():
    rig = Rig()
    rig.feed(b"GET /v2 HTTP/1.0\r\n\r\n")
    request = rig.requests[0]
    request.begin(HEAD_200)
    run(request.send(b"pieces"))
    request.finish()
    head, _, body = rig.transport.written.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head
    assert b"connection: close" in head
    assert body == b"pieces"
    assert rig.transport.closed
    assert not rig.transport.aborted


def test_an_answer_in_pieces_to_head_has_none():
    rig = Rig()
    rig.feed(GET.replace(b"GET", b"HEAD"))
    request = rig.requests[0]
    request.begin(HEAD_200)
    run(request.send(b"pieces"))
    request.finish()
    assert rig.transport.written.endswith(b"\r\n\r\n")
    assert b"pieces" not in rig.transport.written
    rig.feed(GET)
    assert len(rig.requests) == 2


def test_the_sender_waits_while_the_client_does_not_read():
    rig = Rig()
    rig.feed(GET)
    request = rig.requests[0]
    request.begin(HEAD_200)
    rig.connection.pause_writing()

    async def send():
        sending = asyncio.ensure_future(request.send(b"x"))
        await settle()
        assert not sending.done()
        rig.connection.resume_writing()
        await sending
        assert not rig.transport.reading_paused

    run(send())
    request.finish()
    assert dechunk(rig.transport.written.partition(b"\r\n\r\n")[2]) == ([b"x"], b"")


def test_a_client_that_reads_no_pieces_is_let_go_and_its_sender_hears():
    rig = Rig()
    rig.feed(GET)
    request = rig.requests[0]
    abandoned = []
    request.on_abandoned = lambda: abandoned.append(True)
    request.begin(HEAD_200)
    rig.connection.pause_writing()

    async def send():
        sending = asyncio.ensure_future(request.send(b"x"))
        await settle()
        rig.clock.advance(31)
        rig.connection.check(rig.clock.monotonic())
        assert rig.transport.aborted
        rig.connection.connection_lost(None)
        with pytest.raises(HttpHungUp):
            await sending
        with pytest.raises(HttpHungUp):
            await request.send(b"y")

    run(send())
    assert abandoned == [True]
    request.finish()
    request.abort()


def test_pieces_go_out_while_the_body_still_comes():
    rig = Rig()
    rig.feed(HEAD)
    request = rig.requests[0]
    request.begin(HEAD_200)

    async def echo():
        for number in range(3):
            rig.feed(chunk(b"%d" % number))
            await request.send(await request.body_stream.read())
        rig.feed(END)
        assert await request.body_stream.read() == b""

    run(echo())
    request.finish()
    assert dechunk(rig.transport.written.partition(b"\r\n\r\n")[2]) == ([b"0", b"1", b"2"], b"")
    assert not rig.transport.closed
    rig.feed(GET)
    assert len(rig.requests) == 2


def test_an_answer_that_is_finished_before_its_body_came_ends_the_connection():
    rig = Rig()
    rig.feed(HEAD)
    request = rig.requests[0]
    request.begin(HEAD_200)
    request.finish()
    assert rig.transport.written.endswith(b"\r\n\r\n" + END)
    assert rig.transport.eof
    rig.feed(chunk(b"late") + END + GET)
    assert len(rig.requests) == 1


@pytest.mark.parametrize("how", ["abort", "respond"])
def test_an_answer_that_is_broken_off_has_no_end(how):
    rig = Rig()
    rig.feed(GET + GET)
    request = rig.requests[0]
    abandoned = []
    request.on_abandoned = lambda: abandoned.append(True)
    request.begin(HEAD_200)
    run(request.send(b"half"))
    request.abort() if how == "abort" else request.respond(HEAD_200, b"{}")
    assert rig.transport.closed
    assert rig.transport.written.endswith(chunk(b"half"))
    rig.connection.connection_lost(None)
    assert abandoned == []
    assert len(rig.requests) == 1

    old = Rig()
    old.feed(b"GET /v2 HTTP/1.0\r\n\r\n")
    old.requests[0].begin(HEAD_200)
    old.requests[0].abort()
    assert old.transport.aborted, "without chunks only a reset tells"


def test_leaving_waits_for_an_answer_in_pieces():
    rig = Rig()
    rig.feed(GET)
    request = rig.requests[0]
    request.begin(HEAD_200)
    rig.connection.leave()
    assert not rig.transport.closed
    request.finish()
    assert rig.transport.written.endswith(END)
    assert rig.transport.closed


def test_leaving_waits_for_a_request_that_has_begun_to_arrive():
    rig = Rig()
    whole = post(b"hello")
    rig.feed(whole[:-3])
    rig.connection.leave()
    assert not rig.transport.closed
    rig.feed(whole[-3:])
    rig.requests[0].respond(HEAD_200, b"{}")
    assert b"connection: close" in rig.transport.written
    assert rig.transport.closed


def test_a_retired_connection_stays_while_it_is_idle_and_ends_with_its_next_answer():
    rig = Rig()
    rig.connection.retire()
    rig.connection.pause_writing()
    rig.connection.resume_writing()
    assert not rig.transport.closed
    rig.feed(GET + GET)
    rig.requests[0].respond(HEAD_200, b"{}")
    assert not rig.transport.closed, "what was received is answered"
    rig.requests[1].respond(HEAD_200, b"{}")
    assert rig.transport.written.count(b"connection: close") == 1
    assert rig.transport.closed

    idle = Rig()
    idle.connection.retire()
    idle.connection.leave()
    assert idle.transport.closed
    pieces = Rig()
    pieces.connection.retire()
    pieces.feed(GET)
    pieces.requests[0].begin(HEAD_200)
    assert b"connection: close" in pieces.transport.written
    pieces.requests[0].finish()
    assert pieces.transport.closed


@given(st.lists(st.binary(min_size=1, max_size=100), max_size=10))
def test_no_bytes_break_a_stream(pieces):
    rig = Rig()
    rig.feed(HEAD)
    request = rig.requests[0]
    for piece in pieces:
        if not rig.transport.closed:
            rig.feed(piece)
    request.respond(HEAD_200, b"{}")
    rig.connection.connection_lost(None)
    assert rig.budget.used_bytes == 0
