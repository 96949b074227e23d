"""One connection, driven by hand: a fake transport, a fake clock, no sockets."""

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.clock import ManualClock
from penstock.serving.protocols.http.connection import (
    PARSED_BYTES_MAX,
    PIPELINED_REQUESTS_MAX,
    HttpConnection,
)
from penstock.serving.protocols.http.heads import KnownHeads
from penstock.serving.protocols.http.messages import (
    ConnectionLimits,
    DateLine,
    ReceiveBudget,
    ResponseHead,
    SharedParts,
)
from penstock.serving.protocols.http.receiving import HEADERS_MAX

LIMITS = ConnectionLimits(head_bytes_max=1000, body_bytes_max=100, receive_timeout_s=30, keep_alive_s=120)
HEAD_200 = ResponseHead.build(200, "application/json")
GET = b"GET /v2 HTTP/1.1\r\nhost: x\r\n\r\n"


class Transport:
    def __init__(self):
        self.written = b""
        self.closed = self.aborted = self.reading_paused = self.eof = False

    def get_extra_info(self, name):
        assert name == "peername"
        return ("127.0.0.1", 1)

    def write(self, data):
        assert not self.closed, "written to after it was closed"
        self.written += data

    def close(self):
        self.closed = True

    def abort(self):
        self.closed = self.aborted = True

    def is_closing(self):
        return self.closed

    def pause_reading(self):
        self.reading_paused = True

    def resume_reading(self):
        self.reading_paused = False

    def can_write_eof(self):
        return True

    def write_eof(self):
        self.eof = True


class Handler:
    """Keeps requests until they are answered by hand."""

    def __init__(self):
        self.requests = []

    def meet(self, head, arrived_s, sink):
        return None

    def wants_stream(self, head):
        return head.target.startswith(b"/stream")

    def handle(self, request):
        self.requests.append(request)

    def refusal(self, status, message, headers):
        origin = headers.get(b"origin")
        lines = b"" if origin is None else b"access-control-allow-origin: %b\r\n" % origin
        return lines, f"{status} {message}".encode()


class Rig:
    def __init__(self, limits=LIMITS, budget=None):
        self.clock = ManualClock()
        self.handler = Handler()
        self.transport = Transport()
        self.gone = []
        self.budget = budget or ReceiveBudget(1_000_000)
        date = DateLine(datetime(2013, 4, 1, tzinfo=UTC))
        self.shared = SharedParts(limits, self.budget, date, KnownHeads())
        self.connection = HttpConnection(self.handler, self.shared, self.clock, self.gone.append)
        self.connection.connection_made(self.transport)

    def feed(self, data):
        self.connection.data_received(data)

    @property
    def requests(self):
        return self.handler.requests


def post(body, *further):
    lines = [b"POST /infer HTTP/1.1", b"Host: x", b"Content-Length: %d" % len(body), *further]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def test_a_request_arrives_whole_and_is_answered():
    rig = Rig()
    rig.clock.advance(5)
    rig.feed(post(b"hello", b"X-Thing: 1"))
    (request,) = rig.requests
    assert (request.method, request.target, request.body) == (b"POST", b"/infer", b"hello")
    assert request.headers == {b"host": b"x", b"content-length": b"5", b"x-thing": b"1"}
    assert request.arrived_s == 5

    request.respond(HEAD_200, b"{}")

    assert rig.transport.written == (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ndate: Mon, 01 Apr 2013 00:00:00 GMT\r\n"
        b"content-length: 2\r\n\r\n{}"
    )
    assert not rig.transport.closed


@given(st.lists(st.binary(max_size=100), min_size=1, max_size=5), st.data())
def test_however_the_bytes_are_cut_the_requests_are_the_same(bodies, data):
    rig = Rig()
    stream = b"".join(post(body) for body in bodies)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=20)))
    for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        if start < stop:
            rig.feed(stream[start:stop])
        while rig.requests and rig.connection._active is rig.requests[-1]:
            rig.requests[-1].respond(HEAD_200, b"{}")
    assert [request.body for request in rig.requests] == bodies
    assert rig.transport.written.count(b"HTTP/1.1 200 OK") == len(bodies)


def test_pipelined_requests_are_handled_one_after_the_other_and_reading_pauses():
    rig = Rig()
    rig.feed(GET * (PIPELINED_REQUESTS_MAX + 1))
    assert len(rig.requests) == 1
    assert rig.transport.reading_paused

    rig.requests[0].respond(HEAD_200, b"{}")

    assert len(rig.requests) == 2
    for _ in range(PIPELINED_REQUESTS_MAX):
        rig.requests[-1].respond(HEAD_200, b"{}")
    assert len(rig.requests) == PIPELINED_REQUESTS_MAX + 1
    assert not rig.transport.reading_paused


def test_a_pipeline_of_any_length_is_answered_and_never_held_parsed():
    rig = Rig()
    rig.feed(post(b"first"))

    def handle_at_once(request):
        rig.requests.append(request)
        request.respond(HEAD_200, b"{}")

    rig.handler.handle = handle_at_once
    most_parsed = 0
    count = 5000
    for _ in range(count // 1000):
        rig.feed(GET * 1000)
        most_parsed = max(most_parsed, len(rig.connection._pipelined))
    assert rig.transport.reading_paused
    assert most_parsed <= PIPELINED_REQUESTS_MAX + PARSED_BYTES_MAX // len(GET) + 1

    rig.requests[0].respond(HEAD_200, b"{}")

    assert rig.transport.written.count(b"HTTP/1.1 200") == count + 1
    assert not rig.transport.reading_paused
    rig.feed(GET)
    assert len(rig.requests) == count + 2


def test_what_was_received_before_the_end_is_answered():
    rig = Rig()
    rig.feed(post(b"1") + post(b"2") + post(b"3"))
    rig.connection.leave()
    for number in range(3):
        assert not rig.transport.closed
        rig.requests[number].respond(HEAD_200, b"{}")
    assert rig.transport.written.count(b"HTTP/1.1 200") == 3
    assert rig.transport.written.count(b"connection: close") == 1
    assert rig.transport.closed


def test_what_was_received_before_nonsense_is_answered_first():
    rig = Rig()
    rig.feed(post(b"1") + post(b"2") + b"nonsense\r\n\r\n")
    rig.clock.advance(20)
    rig.connection.check(rig.clock.monotonic())
    assert not rig.transport.closed, "its first request is still being worked on"
    rig.requests[0].respond(HEAD_200, b"{}")
    rig.requests[1].respond(HEAD_200, b"{}")
    assert re.findall(rb"HTTP/1.1 (\d+)", rig.transport.written) == [b"200", b"200", b"400"]
    assert rig.transport.eof


def test_trailers_and_chunk_extensions_are_bounded():
    for flood in (b"1\r\nx\r\n0\r\nlate: ", b"1;"):
        rig = Rig()
        rig.feed(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n" + flood)
        for _ in range(20):
            rig.feed(b"x" * 100)
        assert rig.transport.written.startswith(b"HTTP/1.1 431")


def test_small_chunks_make_one_body():
    rig = Rig()
    rig.feed(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
    for _ in range(50):
        rig.feed(b"2\r\nab\r\n")
    rig.feed(b"0\r\n\r\n")
    assert rig.requests[0].body == b"ab" * 50
    assert isinstance(rig.requests[0].body, bytes)


def test_bodies_of_all_connections_have_a_bound_and_are_given_back():
    rig = Rig()
    rig.budget._bytes_max = 150
    rig.feed(post(b"x" * 100))
    assert rig.budget.used_bytes == 100
    other = Rig(budget=rig.budget)
    other.feed(post(b"x" * 100))
    assert other.transport.written.startswith(b"HTTP/1.1 503")
    rig.requests[0].respond(HEAD_200, b"{}")
    assert rig.budget.used_bytes == 0
    rig.feed(post(b"y" * 100) + post(b"z" * 20) + b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nabc")
    assert rig.budget.used_bytes == 123
    rig.connection.connection_lost(None)
    assert rig.budget.used_bytes == 0


def test_what_takes_the_place_of_a_body_counts_like_it():
    rig = Rig()
    rig.budget._bytes_max = 150
    rig.feed(post(b"x" * 100))
    (request,) = rig.requests
    assert not request.replace_body(b"y" * 151)
    assert request.body == b"x" * 100
    assert request.replace_body(b"y" * 150)
    assert rig.budget.used_bytes == 150
    request.respond(HEAD_200, b"{}")
    assert rig.budget.used_bytes == 0
    assert request.replace_body(b"late")
    assert rig.budget.used_bytes == 0


def test_a_header_that_decides_may_come_once():
    rig = Rig()
    rig.feed(b"GET / HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n")
    assert rig.transport.written.startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize(
    "data",
    [
        post(b"x" * 101),
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n" + b"40\r\n" + b"x" * 64 + b"\r\n"
        b"40\r\n" + b"x" * 64 + b"\r\n0\r\n\r\n",
    ],
)
def test_a_body_over_the_limit_is_refused_once_and_never_handled(data):
    rig = Rig()
    rig.feed(data)
    assert rig.requests == []
    assert rig.transport.written.count(b"HTTP/1.1 ") == 1
    assert rig.transport.written.startswith(b"HTTP/1.1 413")
    assert rig.transport.eof
    assert not rig.transport.closed, "the client may still be sending; a reset would cost it the answer"
    rig.feed(b"more" * 100)
    assert rig.requests == []
    rig.clock.advance(6)
    rig.connection.check(rig.clock.monotonic())
    assert rig.transport.aborted


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: x\r\n" + b"".join(b"h%d: 1\r\n" % n for n in range(HEADERS_MAX + 1)), 431),
    ],
)
def test_what_is_no_request_gets_one_clear_answer(data, status):
    rig = Rig()
    rig.feed(data)
    assert rig.transport.written.startswith(b"HTTP/1.1 %d" % status)
    assert rig.transport.written.count(b"HTTP/1.1 ") == 1
    assert rig.requests == []


def test_a_head_that_never_ends_is_refused():
    rig = Rig()
    rig.feed(b"GET / HTTP/1.1\r\nhost: x\r\n")
    for number in range(100):
        rig.feed(b"h%d: %b\r\n" % (number, b"x" * 20))
    assert rig.transport.written.startswith(b"HTTP/1.1 431")


def test_a_client_that_asks_first_is_told_to_go_on():
    rig = Rig()
    rig.feed(b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n")
    assert rig.transport.written == b"HTTP/1.1 100 Continue\r\n\r\n"
    rig.feed(b"{}")
    assert rig.requests[0].body == b"{}"


def test_a_client_that_asks_first_is_not_told_to_send_too_much():
    rig = Rig()
    rig.feed(b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 101\r\n\r\n")
    assert rig.transport.written.startswith(b"HTTP/1.1 413")


def test_a_trailer_is_not_taken_for_a_header():
    rig = Rig()
    rig.feed(
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nx-late: 1\r\n\r\n"
    )
    assert b"x-late" not in rig.requests[0].headers


def test_half_a_request_is_waited_for_only_so_long():
    rig = Rig()
    rig.feed(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhe")
    rig.clock.advance(29)
    rig.connection.check(rig.clock.monotonic())
    assert rig.transport.written == b""
    rig.clock.advance(2)
    rig.connection.check(rig.clock.monotonic())
    assert rig.transport.written.startswith(b"HTTP/1.1 408")


def test_an_idle_connection_is_closed_and_a_busy_one_is_not():
    rig = Rig()
    rig.clock.advance(119)
    rig.connection.check(rig.clock.monotonic())
    assert not rig.transport.closed
    rig.feed(GET)
    rig.clock.advance(500)
    rig.connection.check(rig.clock.monotonic())
    assert not rig.transport.closed, "its answer is still being made"
    rig.requests[0].respond(HEAD_200, b"")
    rig.connection.check(rig.clock.monotonic() + 121)
    assert rig.transport.closed


def test_a_client_that_does_not_read_is_let_go():
    rig = Rig()
    rig.connection.pause_writing()
    assert rig.transport.reading_paused
    rig.clock.advance(31)
    rig.connection.check(rig.clock.monotonic())
    assert rig.transport.aborted


def test_a_client_that_hangs_up_abandons_its_request():
    rig = Rig()
    rig.feed(GET)
    abandoned = []
    rig.requests[0].on_abandoned = lambda: abandoned.append(True)
    assert not rig.connection.eof_received()
    rig.connection.connection_lost(None)
    assert abandoned == [True]
    assert rig.gone == [rig.connection]
    rig.requests[0].respond(HEAD_200, b"{}")
    assert rig.transport.written == b"", "an answer to nobody goes nowhere"


def test_leaving_answers_what_was_received_and_then_closes():
    rig = Rig()
    rig.feed(GET)
    rig.connection.leave()
    assert not rig.transport.closed
    rig.requests[0].respond(HEAD_200, b"{}")
    assert b"connection: close" in rig.transport.written
    assert rig.transport.closed

    idle = Rig()
    idle.connection.leave()
    assert idle.transport.closed


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"]
)
def test_a_client_that_wants_to_close_is_heard(data):
    rig = Rig()
    rig.feed(data)
    rig.requests[0].respond(HEAD_200, b"{}")
    assert b"connection: close" in rig.transport.written
    assert rig.transport.closed


def test_head_is_answered_without_a_body():
    rig = Rig()
    rig.feed(GET.replace(b"GET", b"HEAD"))
    rig.requests[0].respond(HEAD_200, b"{}")
    assert rig.transport.written.endswith(b"content-length: 2\r\n\r\n")


def test_an_offer_to_upgrade_is_ignored_and_ends_the_connection():
    rig = Rig()
    rig.feed(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
    (request,) = rig.requests
    request.respond(HEAD_200, b"{}")
    assert rig.transport.written.count(b"HTTP/1.1 ") == 1
    assert rig.transport.closed


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=10))
def test_no_bytes_break_it(chunks):
    rig = Rig()
    for chunk in chunks:
        if not rig.transport.closed:
            rig.feed(chunk)
        while rig.requests and rig.connection._active is rig.requests[-1]:
            rig.requests[-1].respond(HEAD_200, b"{}")


def test_a_refusal_goes_by_the_headers_of_what_it_refuses():
    rig = Rig()
    rig.feed(post(b"hello", b"Origin: https://first.example"))
    rig.requests[0].respond(HEAD_200, b"{}")
    rig.feed(post(b"x" * 101, b"Origin: https://second.example"))
    assert b"413" in rig.transport.written
    assert b"access-control-allow-origin: https://second.example\r\n" in rig.transport.written


def test_a_refusal_of_no_request_knows_nothing_of_the_one_before():
    rig = Rig()
    rig.feed(post(b"hello", b"Origin: https://first.example"))
    rig.requests[0].respond(HEAD_200, b"{}")
    rig.feed(b"\x00\x01 this is no HTTP\r\n\r\n")
    assert b"400" in rig.transport.written
    assert b"access-control" not in rig.transport.written


def test_one_that_was_not_yet_made_can_be_looked_after():
    rig = Rig()
    made = HttpConnection(rig.handler, rig.shared, rig.clock, rig.gone.append)
    made.check(rig.clock.monotonic())  # a server lists it from the moment that it is accepted
