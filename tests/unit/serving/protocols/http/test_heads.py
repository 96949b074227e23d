"""Heads that are known are not parsed again, and nobody can tell but by the clock: a connection that remembers
does with any bytes, in any pieces, what one that remembers nothing does.
"""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_connection import HEAD_200, Rig

from penstock.serving.protocols.http.heads import HEAD_BYTES_MAX, HEADS_MAX, KnownHeads, RequestHead
from penstock.serving.protocols.http.messages import Refusal, ResponseHead

REFUSAL = Refusal(ResponseHead.build(503, "application/json"), b"refused\r\n")
LINES = (
    b"POST /infer HTTP/1.1",
    b"POST /refuse HTTP/1.1",
    b"POST /stream HTTP/1.1",
    b"GET /v2 HTTP/1.1",
    b"GET /v2 HTTP/1.0",
    b"GET  /v2 HTTP/1.1",
    b"POST /",
)
HEADERS = (
    b"Host: x",
    b"Host: y",
    b"Content-Length: 5",
    b"Content-Length: 0",
    b"Content-Length: 40",
    b"content-length:5 ",
    b"Content-Length: 101",
    b"Transfer-Encoding: chunked",
    b"Connection: close",
    b"Connection: keep-alive",
    b"Expect: 100-continue",
    b"Upgrade: h2c",
    b"X-Thing: 1",
    b"X-Fold: a\r\n b",
    b"X-Bare: a\nX-Other: b",
    b" : ",
)
BODIES = (
    b"",
    b"hello",
    b"12345POST /infer HTTP/1.1\r\nHost: x\r\n\r\n",
    b"5\r\nhello\r\n0\r\n\r\n",
    b"\r\n\r\n",
    b"\n",
)


@st.composite
def exchanges(draw):
    """What a client sends: a few messages, some again and again, cut into pieces anywhere."""
    kinds = draw(
        st.lists(
            st.builds(
                lambda line, headers, end, body: b"\r\n".join((line, *headers)) + end + body,
                st.sampled_from(LINES),
                st.lists(st.sampled_from(HEADERS), max_size=4),
                st.sampled_from((b"\r\n\r\n", b"\r\n\r\n", b"\n\n", b"\r\n")),
                st.sampled_from(BODIES),
            ),
            min_size=1,
            max_size=3,
        )
    )
    pieces = []
    for message in draw(st.lists(st.sampled_from(kinds), min_size=3, max_size=8)):
        cut = draw(st.one_of(st.none(), st.none(), st.integers(0, len(message))))
        pieces += [message] if cut is None else [message[:cut], message[cut:]]
        if len(pieces) > 1 and draw(st.integers(0, 4)) == 0:
            last = pieces.pop()
            pieces[-1] += last
    return pieces


class Forgetful(KnownHeads):
    def learn(self, raw, head):
        pass


def seen(pieces, known, *, answers_at_once):
    """All that a handler and a client see. What is refused, a handler need not see."""
    rig = Rig()
    rig.connection._receiver._known = known
    rig.connection._receiver._meet = lambda head, arrived_s, sink: (
        REFUSAL if head.target == b"/refuse" else None
    )
    events = []

    def handle(request):
        head = request.head
        if request.refused is not None:
            request.respond(REFUSAL.head, REFUSAL.body)
            return
        events.append((head.method, head.target, dict(head.headers), bytes(request.body)))
        events.append(
            (request.keep_alive, head.chunks, head.length, request.arrived_s, request.body_stream is None)
        )
        if answers_at_once:
            request.respond(HEAD_200, b"%d" % len(events))

    rig.handler.handle = handle
    for piece in pieces:
        rig.clock.advance(1)
        if piece:
            rig.feed(piece)
        events.append((rig.budget.used_bytes, rig.transport.closed, rig.transport.reading_paused))
    return events, rig.transport.written


MESSAGE = b"POST /infer HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"


@settings(max_examples=600)
@given(exchanges(), st.booleans())
@example(
    [MESSAGE, MESSAGE, MESSAGE, MESSAGE[:-5] + b"other", MESSAGE[:20], MESSAGE[20:], MESSAGE + MESSAGE], True
)
@example([b"\r\n\r\n" + MESSAGE] * 4, True)
@example([b"\r\n\r\n" + MESSAGE, b"\r\n\r\n" + MESSAGE, MESSAGE, b"\r\n\r\n" + MESSAGE], False)
@example([MESSAGE.replace(b"/infer", b"/stream") + MESSAGE] * 3 + [MESSAGE] * 3, True)
@example([MESSAGE.replace(b"/infer", b"/refuse")] * 4, True)
def test_nobody_can_tell(pieces, answers_at_once):
    remembered = seen(pieces, KnownHeads(), answers_at_once=answers_at_once)
    assert remembered == seen(pieces, Forgetful(), answers_at_once=answers_at_once)
    # What others have taught it changes nothing either.
    taught = KnownHeads()
    seen(pieces, taught, answers_at_once=True)
    assert seen(pieces, taught, answers_at_once=answers_at_once) == remembered


def known_after(*messages):
    known = KnownHeads()
    seen(list(messages), known, answers_at_once=True)
    return known


def test_a_head_is_known_from_the_third_time_on():
    head = MESSAGE[:-5]
    assert known_after(MESSAGE).find(head) is None
    found = known_after(MESSAGE, MESSAGE).find(head)
    assert found is not None
    assert (found.target, found.length) == (b"/infer", 5)


def test_its_parser_is_not_asked_again():
    rig = Rig()
    for _ in range(2):
        rig.feed(MESSAGE)
        rig.requests.pop().respond(HEAD_200, b"")
    del rig.connection._receiver._parser
    rig.feed(MESSAGE)
    assert rig.requests.pop().body == b"hello"


@pytest.mark.parametrize(
    "header", [b"Expect: 100-continue", b"Transfer-Encoding: chunked", b"Connection: close"]
)
def test_what_has_more_to_say_is_parsed_every_time(header):
    message = MESSAGE.replace(b"Host: x", b"Host: x\r\n" + header)
    assert not known_after(*[message] * 3)._heads


def test_it_knows_no_more_than_it_may():
    known = KnownHeads()
    for number in range(2 * HEADS_MAX):
        target = b"/%d" % number
        known.learn(
            b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % target, RequestHead(b"GET", target, {b"host": b"x"})
        )
    assert len(known._heads) == HEADS_MAX
    long = b"/" + b"x" * HEAD_BYTES_MAX
    known.learn(b"GET %b HTTP/1.1\r\n\r\n" % long, RequestHead(b"GET", long, {}))
    assert known.find(b"GET %b HTTP/1.1\r\n\r\n" % long) is None
