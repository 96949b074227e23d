"""Requests that are refused from their heads: the answer is the same however the body comes, and what follows
on the connection is not touched by it.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_connection import HEAD_200, LIMITS, Rig, post

from penstock.serving.protocols.http.messages import ConnectionLimits, Refusal, ResponseHead
from penstock.serving.protocols.http.receiving import SKIPPED_BYTES_MAX
from penstock.serving.protocols.terms import SaidTerms, Terms

REFUSAL = Refusal(ResponseHead.build(503, "application/json"), b"refused\r\n")
WIDE = ConnectionLimits(
    head_bytes_max=1000, body_bytes_max=8 * SKIPPED_BYTES_MAX, receive_timeout_s=30, keep_alive_s=120
)


def rig(limits=LIMITS):
    made = Rig(limits)

    def meet(head, arrived_s, sink):
        assert sink.peer == b"127.0.0.1"
        return REFUSAL if b"refuse" in head.headers else Terms(SaidTerms(), b"caller")

    def handle(request):
        made.handler.requests.append(request)
        if request.refused is not None:
            request.respond(request.refused.head, request.refused.body)

    made.connection._receiver._meet = meet
    made.handler.handle = handle
    return made


def refused(body=b"hello", *further):
    return post(body, b"refuse: 1", *further)


def statuses(made):
    return [line.split()[1] for line in made.transport.written.split(b"\r\n") if line.startswith(b"HTTP/1.1")]


def test_a_refused_request_has_no_body_and_holds_no_memory():
    made = rig()
    made.feed(refused())
    (request,) = made.requests
    assert (request.body, request.refused) == (b"", REFUSAL)
    assert made.budget.used_bytes == 0
    assert not made.transport.closed


def test_one_that_is_taken_on_keeps_the_terms_that_were_read():
    made = rig()
    made.feed(post(b"hello"))
    assert made.requests[0].terms.caller == b"caller"


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=100)), min_size=1, max_size=6), st.data())
def test_however_the_bytes_are_cut_each_request_gets_its_own_answer(requests, data):
    made = rig()
    stream = b"".join(refused(body) if refuse else post(body) for refuse, body in requests)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        made.feed(stream[start:stop])
    answered = 0
    while answered < len(made.requests):
        request = made.requests[answered]
        answered += 1
        if request.refused is None:
            request.respond(HEAD_200, b"\r\n")
    assert statuses(made) == [b"503" if refuse else b"200" for refuse, _ in requests]
    assert [request.body for request in made.requests] == [b"" if refuse else body for refuse, body in requests]
    assert made.budget.used_bytes == 0


def test_a_large_body_that_is_not_wanted_is_not_waited_for():
    made = rig(WIDE)
    head = refused(bytes(SKIPPED_BYTES_MAX + 1))[:150]
    made.feed(head)
    assert statuses(made) == [b"503"]
    assert b"connection: close" in made.transport.written
    made.feed(bytes(100_000))  # what is on its way is thrown away
    assert made.budget.used_bytes == 0
    assert statuses(made) == [b"503"]


def test_a_client_that_asks_first_is_told_at_once():
    made = rig()
    made.feed(refused(b"x" * 90, b"expect: 100-continue")[:-90])
    assert statuses(made) == [b"503"]


def test_a_body_without_end_is_not_read_for_ever():
    made = rig()
    made.feed(b"POST /infer HTTP/1.1\r\nhost: x\r\nrefuse: 1\r\ntransfer-encoding: chunked\r\n\r\n")
    for _ in range(5):
        made.feed(b"32\r\n" + bytes(50) + b"\r\n")
    assert statuses(made) == [b"413"]


@pytest.mark.parametrize("seconds", [31])
def test_half_a_body_of_a_refused_request_is_waited_for_no_longer_than_any(seconds):
    made = rig()
    made.feed(refused(b"x" * 50)[:-10])
    made.clock.advance(seconds)
    made.connection.check(made.clock.monotonic())
    assert statuses(made) == [b"408"]
