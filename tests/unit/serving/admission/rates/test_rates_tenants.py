"""Who asks: by key, by address, and by what a proxy says."""

import gc
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.errors import ConfigurationError, InvalidInput
from penstock.serving.admission.rates.tenants import CACHED_MAX, ApiKeys, Tenants, is_named, parse_networks

KEY = "acme-0123456789abcdef"
PROXIES = parse_networks("10.0.0.0/8, fd00::/8")


def keys() -> ApiKeys:
    found = ApiKeys(b"s" * 32)
    found.add("acme", KEY)
    return found


def test_a_key_names_its_tenant_in_either_header() -> None:
    tenants = Tenants(keys())
    for headers in (
        {b"x-api-key": KEY.encode()},
        {b"authorization": b"Bearer " + KEY.encode()},
        {b"authorization": b"bearer  " + KEY.encode() + b" "},
    ):
        assert tenants.identify(headers, b"1.2.3.4") == "acme"


def test_a_key_that_nobody_has_counts_for_nothing() -> None:
    """Anybody can make up a million of them, and would have a million buckets."""
    tenants = Tenants(keys())
    for made_up in range(100):
        assert tenants.identify({b"x-api-key": b"made-up-%d" % made_up}, b"1.2.3.4") == "@1.2.3.4"
    assert tenants.identify({b"authorization": b"Basic " + KEY.encode()}, b"1.2.3.4") == "@1.2.3.4"


def test_where_keys_are_trusted_each_is_a_tenant_known_by_a_digest() -> None:
    tenants = Tenants(keys(), trust_keys=True)
    found = tenants.identify({b"x-api-key": b"their-own-key"}, b"1.2.3.4")
    assert found != tenants.identify({b"x-api-key": b"another-key"}, b"1.2.3.4")
    assert found == tenants.identify({b"x-api-key": b"their-own-key"}, b"5.6.7.8")
    assert not is_named(found)
    assert "their-own-key" not in found
    assert tenants.identify({b"x-api-key": KEY.encode()}, b"1.2.3.4") == "acme"


def test_no_key_is_kept_or_shown() -> None:
    found = keys()
    tenants = Tenants(found, trust_keys=True)
    tenants.identify({b"x-api-key": b"their-own-key"}, b"1.2.3.4")
    assert KEY not in repr(found)
    assert "their-own-key" not in repr(vars(tenants))
    for each in gc.get_referents(found, found.__dict__, tenants.__dict__):
        assert KEY not in repr(each)
        assert KEY.encode() not in repr(each).encode()


@pytest.mark.parametrize(
    "key", ["short", "k" * 1025, "with a space, so no key", "kéy-0123456789abcdef", 5, None]
)
def test_keys_that_cannot_be_any(key: object) -> None:
    with pytest.raises(InvalidInput) as caught:
        ApiKeys(b"s" * 32).add("acme", key)
    assert str(key) not in caught.value.message or key in {5, None}


def test_two_tenants_cannot_have_the_same_key() -> None:
    found = keys()
    found.add("acme", KEY)
    with pytest.raises(InvalidInput, match="same key"):
        found.add("other", KEY)


@given(st.ip_addresses(v=6), st.integers(0, 2**64 - 1))
def test_all_addresses_of_a_64_are_one_tenant(address: ipaddress.IPv6Address, suffix: int) -> None:
    if address.ipv4_mapped is not None:
        return
    tenants = Tenants(ApiKeys(b""))
    neighbour = ipaddress.IPv6Address(int(address) >> 64 << 64 | suffix)
    if neighbour.ipv4_mapped is not None:
        return
    other = ipaddress.IPv6Address(int(address) ^ 1 << 64)
    found = tenants.identify({}, str(address).encode())
    assert tenants.identify({}, str(neighbour).encode()) == found
    if other.ipv4_mapped is None:
        assert tenants.identify({}, str(other).encode()) != found


@pytest.mark.parametrize(
    ("peer", "tenant"),
    [
        (b"1.2.3.4", "@1.2.3.4"),
        (b"::ffff:1.2.3.4", "@1.2.3.4"),
        (b"ipv4:1.2.3.4", "@1.2.3.4"),
        (b"2001:db8::5", "@2001:db8::/64"),
        (b"ipv6:%5B2001:db8::5%5D", "@2001:db8::/64"),
        (b"fe80::1%eth0", "@fe80::/64"),
        (b"", "@"),
        (b"unix", "@"),
    ],
)
def test_addresses_as_sockets_and_grpc_have_them(peer: bytes, tenant: str) -> None:
    assert Tenants(ApiKeys(b"")).identify({}, peer) == tenant


@pytest.mark.parametrize(
    ("hops", "tenant"),
    [
        (b"203.0.113.7", "@203.0.113.7"),
        (b"1.1.1.1, 203.0.113.7", "@203.0.113.7"),  # what stands before, the client may have written
        (b"203.0.113.7, 10.1.1.1", "@203.0.113.7"),
        (b"203.0.113.7:4711, 10.1.1.1", "@203.0.113.7"),
        (b'"[2001:db8::1]:99"', "@2001:db8::/64"),
        (b"nonsense", "@10.0.0.1"),
        (b"203.0.113.7, nonsense, 10.1.1.1", "@10.1.1.1"),
        (b"", "@10.0.0.1"),
        (b",,,", "@10.0.0.1"),
        (b"10.9.9.9", "@10.9.9.9"),
        (b"1.1.1.1, " * 3000 + b"203.0.113.7", "@203.0.113.7"),
    ],
)
def test_what_a_proxy_says(hops: bytes, tenant: str) -> None:
    tenants = Tenants(ApiKeys(b""), proxies=PROXIES)
    for _ in range(2):  # the second time from what is kept
        assert tenants.identify({b"x-forwarded-for": hops}, b"10.0.0.1") == tenant


def test_who_is_no_proxy_is_not_believed() -> None:
    tenants = Tenants(ApiKeys(b""), proxies=PROXIES)
    assert tenants.identify({b"x-forwarded-for": b"203.0.113.7"}, b"198.51.100.1") == "@198.51.100.1"
    assert Tenants(ApiKeys(b"")).identify({b"x-forwarded-for": b"203.0.113.7"}, b"10.0.0.1") == "@10.0.0.1"


def test_what_is_kept_is_bounded() -> None:
    tenants = Tenants(ApiKeys(b""), proxies=PROXIES)
    for number in range(CACHED_MAX + 10):
        address = str(ipaddress.IPv4Address(0x01000000 + number)).encode()
        tenants.identify({}, address)
        tenants.identify({b"x-forwarded-for": address}, b"10.0.0.1")
    assert len(tenants._by_peer) <= CACHED_MAX
    assert len(tenants._by_hops) <= CACHED_MAX


@pytest.mark.parametrize("text", ["10.0.0.0/33", "localhost", "1.2.3", "::/129", "x" * 1000])
def test_networks_that_are_none(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_networks(f"10.0.0.0/8,{text}")
    assert len(caught.value.message) < 200
