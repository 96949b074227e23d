import re

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from penstock.core.calling import Criticality
from penstock.core.clock import ManualClock
from penstock.core.errors import InvalidInput
from penstock.observe.metrics import MetricSet
from penstock.serving.admission.rates.tenants import ApiKeys, Tenants
from penstock.serving.admission.rights import Rights
from penstock.serving.protocols.terms import SaidTerms, Terms, read_terms

KEY = "key-of-a-tenant-0123456789"


def test_none() -> None:
    terms = read_terms({}, b"10.0.0.1")
    assert (terms.timeout_s, terms.criticality, terms.caller, terms.retry) == (None, 2, b"10.0.0.1", False)


def test_the_shortest_time_counts() -> None:
    headers = {b"x-request-timeout-ms": b"500", b"x-envoy-expected-rq-timeout-ms": b"250"}
    assert read_terms(headers, b"").timeout_s == 0.25


@pytest.mark.parametrize("value", [b"0", b"-1", b"nan", b"-inf", b"soon", b"", b"1 2", b"\xff"])
@pytest.mark.parametrize("name", [b"x-request-timeout-ms", b"x-envoy-expected-rq-timeout-ms"])
def test_what_is_no_time(name: bytes, value: bytes) -> None:
    with pytest.raises(InvalidInput, match=name.decode()):
        read_terms({name: value}, b"")


@pytest.mark.parametrize("value", [b"1e300", b"inf", b"99999999999999"])
def test_years_are_a_time_too(value: bytes) -> None:
    assert (read_terms({b"x-request-timeout-ms": value}, b"").timeout_s or 0) > 1e9


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        (b"CRITICAL_PLUS", 1),
        (b"critical", 2),
        (b" Sheddable_Plus ", 3),
        (b"SHEDDABLE", 4),
        (b"1", 1),
        (b"4", 4),
    ],
)
def test_criticalities(value: bytes, meant: int) -> None:
    assert read_terms({b"x-criticality": value}, b"").criticality == meant


@given(st.binary(max_size=40))
def test_any_other_criticality_is_refused_with_the_names(value: bytes) -> None:
    text = value.decode("latin-1")
    names = {each.name for each in Criticality} | {"1", "2", "3", "4"}
    assume(text.strip().upper() not in names)
    with pytest.raises(InvalidInput) as refused:
        read_terms({b"x-criticality": value}, b"")
    assert "CRITICAL_PLUS" in (refused.value.hint or "")


def test_the_caller_is_its_key_where_it_has_one() -> None:
    assert read_terms({b"x-api-key": b"k", b"authorization": b"Bearer t"}, b"address").caller == b"k"
    assert read_terms({b"authorization": b"Bearer t"}, b"address").caller == b"Bearer t"


@given(
    st.integers(0, 10**30),
    st.integers(0, 3),
    st.sampled_from([(b"x-retry-attempt", 1), (b"x-envoy-attempt-count", 2)]),
)
def test_a_number_says_whether_it_is_a_retry(number: int, zeros: int, header: tuple[bytes, int]) -> None:
    name, first_retry = header
    assert read_terms({name: b"0" * zeros + b"%d" % number}, b"").retry is (number >= first_retry)


@given(st.binary(max_size=8))
@example(b"")
@example(b"-1")
@example(b"+1")
@example(b"1.0")
@example(b"1_0")
@example(b"\xb2")
@example(b"9" * 100_000)
def test_whatever_else_is_no_number_of_retries_and_a_proxy_s_slip_is_left_out(value: bytes) -> None:
    number = re.fullmatch(rb"[0-9]+", value.strip())
    if number is None:
        with pytest.raises(InvalidInput, match="x-retry-attempt"):
            read_terms({b"x-retry-attempt": value}, b"")
        assert not read_terms({b"x-envoy-attempt-count": value}, b"").retry
    else:
        assert read_terms({b"x-retry-attempt": value}, b"").retry is (re.search(rb"[1-9]", value) is not None)


def test_either_says_so() -> None:
    assert read_terms({b"x-retry-attempt": b"0", b"x-envoy-attempt-count": b"2"}, b"").retry
    assert read_terms({b"x-retry-attempt": b"1", b"x-envoy-attempt-count": b"1"}, b"").retry


def test_what_the_body_says_counts_as_well_and_is_decided_anew() -> None:
    terms = read_terms({b"x-request-timeout-ms": b"500"}, b"")
    terms.admitted = True
    terms.narrow(9.0, None)
    assert (terms.timeout_s, terms.admitted) == (0.5, True)
    terms.narrow(0.1, 4)
    assert (terms.timeout_s, terms.criticality, terms.admitted) == (0.1, 4, False)


CLASSES = st.sampled_from([1, 2, 3, 4])


@given(
    said=st.none() | CLASSES,
    by_body=st.none() | CLASSES,
    privileged=st.booleans(),
    tenant=st.sampled_from(["acme", "other"]),
)
def test_who_may_not_name_the_highest_class_counts_as_the_next(
    said: int | None, by_body: int | None, privileged: bool, tenant: str
) -> None:
    """The oracle is the rule by itself: what was said last counts, and 1 is 2 for who has no right to it."""
    keys = ApiKeys(b"s" * 32)
    keys.add(tenant, KEY)
    allowed = frozenset({tenant if privileged else "somebody"})
    rights = Rights(Tenants(keys), MetricSet(), ManualClock(), privileged=allowed)
    headers = {b"x-api-key": KEY.encode()}
    if said is not None:
        headers[b"x-criticality"] = b"%d" % said
    terms = read_terms(headers, b"10.0.0.1", rights=rights)
    terms.admitted = True
    by_head = 2 if said is None or (said == 1 and not privileged) else said
    assert terms.criticality == by_head
    terms.narrow(None, by_body)
    meant = by_head if by_body is None else 2 if by_body == 1 and not privileged else by_body
    assert (terms.criticality, terms.admitted) == (meant, meant == by_head)


@pytest.mark.parametrize("header", [False, True])
def test_an_id_that_no_header_holds_is_refused_and_not_cut(header: bool) -> None:
    terms = Terms(SaidTerms(), b"peer")

    def predict(said: str) -> str:
        return terms.predict(None, {b"x-prediction-id": said.encode()}) if header else terms.predict(said, {})

    assert predict("x" * 256) == "x" * 256
    with pytest.raises(InvalidInput, match="257 characters") as refused:
        predict("x" * 257)
    assert refused.value.where == ("x-prediction-id" if header else "id")
    assert len(terms.predict(None, {})) <= 256
