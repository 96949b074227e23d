import pytest

from penstock.core.errors import InvalidInput
from penstock.serving.jobs.job import JobRequest
from penstock.serving.protocols.jobs.preferences import digest_of, kept_headers, key_of, wait_us_max, wants_job


@pytest.mark.parametrize(
    "prefer",
    [
        b"respond-async",
        b"Respond-Async",
        b"wait=10, respond-async",
        b"respond-async; a=b,wait=1",
        b'respond-async=""',
    ],
)
def test_who_prefers_a_job(prefer: bytes) -> None:
    assert wants_job({b"prefer": prefer})


@pytest.mark.parametrize(
    "prefer",
    [b"", b"wait=10", b"return=minimal", b"respond-asynchronously", b"x=respond-async", b"respond-async=false"],
)
def test_who_does_not(prefer: bytes) -> None:
    assert not wants_job({b"prefer": prefer})
    assert not wants_job({})


@pytest.mark.parametrize(("given", "key"), [(b"abc", "abc"), (b'"a b"', "a b"), (b" a ", "a"), (b'"', '"')])
def test_keys(given: bytes, key: str) -> None:
    assert key_of({b"idempotency-key": given}) == key


@pytest.mark.parametrize("given", [b"", b"  ", b'""', b"a" * 256, b"\xc3\xa9", b"a\x01"])
def test_what_is_no_key(given: bytes) -> None:
    with pytest.raises(InvalidInput, match="idempotency-key"):
        key_of({b"idempotency-key": given})


@pytest.mark.parametrize(
    ("given", "wait_us"),
    [
        (b"1", 1_000_000),
        (b"0.5", 500_000),
        (b"0.001", 1000),
        (b"1e3", 1_000_000_000),
        (b"2592000", 2_592_000_000_000),
    ],
)
def test_how_long_it_may_wait(given: bytes, wait_us: int) -> None:
    assert wait_us_max({b"x-job-expires-s": given}) == wait_us


@pytest.mark.parametrize(
    "given", [b"", b"soon", b"0", b"-1", b"nan", b"inf", b"1e9", b"1 s", b"1_0", b"1e-9", b"0.0009"]
)
def test_what_is_no_time(given: bytes) -> None:
    with pytest.raises(InvalidInput, match="x-job-expires-s"):
        wait_us_max({b"x-job-expires-s": given})


def test_nothing_that_says_who_asks_is_kept() -> None:
    headers = {b"x-api-key": b"secret", b"authorization": b"Bearer s", b"cookie": b"c", b"content-type": b"a/b"}
    assert kept_headers(headers, "job") == {"content-type": "a/b", "x-prediction-id": "job"}


def test_all_attempts_have_one_prediction() -> None:
    assert kept_headers({b"x-prediction-id": b"mine"}, "job") == {"x-prediction-id": "mine"}


def test_what_asks_the_same_has_the_same_digest() -> None:
    request = JobRequest("/v2/models/m/infer", {}, b"body", "@")
    headers = {b"content-type": b"application/json", b"x-request-timeout-ms": b"5"}
    same = digest_of(request, headers)
    assert digest_of(request._replace(tenant="other"), {**headers, b"x-request-timeout-ms": b"9"}) == same
    others = [
        digest_of(request._replace(body=b"bodY"), headers),
        digest_of(request._replace(target="/v2/models/n/infer"), headers),
        digest_of(request, {**headers, b"content-type": b"application/octet-stream"}),
        digest_of(request, {**headers, b"x-webhook-url": b"https://a.example"}),
        digest_of(request, {**headers, b"x-job-expires-s": b"9"}),
        digest_of(request, {**headers, b"x-prediction-id": b"9"}),
        # What moves from one part to the next is something else.
        digest_of(request, {**headers, b"accept": b"body"}),
    ]
    assert len({same, *others}) == 8
