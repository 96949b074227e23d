import ipaddress

import pytest

from penstock.core.errors import InvalidInput
from penstock.serving.jobs.webhook_urls import check_url, forbidden, host_of

INSIDE = [
    *("127.0.0.1", "127.8.9.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1"),
    *("0.0.0.0", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1"),
    *("::1", "::", "fe80::1", "fc00::1", "fd12::1", "ff02::1", "fec0::1", "2001:db8::1"),
    # IPv6 that ends up at an address of IPv4: mapped, 6to4, NAT64, Teredo (which has it inverted).
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "64:ff9b::a00:1", "2001:0:4136:e378::f5ff:fffe"),
    # Compatible with IPv4, NAT64 of a network's own, translated; what was never handed out; tunnels.
    *("::7f00:1", "::a00:1", "64:ff9b:1::a00:1", "64:ff9b:1:fffe::808:808", "::ffff:0:7f00:1"),
    *("5f00::1", "4000::1", "100::1", "3fff::1", "2001:2::1", "2001:20::1", "2002:808:808::1", "192.88.99.1"),
]
OUTSIDE = [
    "93.184.216.34",
    "8.8.8.8",
    "2606:2800:220:1:248:1893:25c8:1946",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
]


@pytest.mark.parametrize("address", INSIDE)
def test_nothing_is_sent_inside(address: str) -> None:
    parsed = ipaddress.ip_address(address)
    assert forbidden(parsed, ()) is not None
    shown = f"[{address}]" if ":" in address else address
    with pytest.raises(InvalidInput) as caught:
        check_url(f"http://{shown}:8080/hook", ())
    assert "not on the public internet" in caught.value.message
    assert "jobs.webhook_networks_allowed" in (caught.value.hint or "")


@pytest.mark.parametrize("address", OUTSIDE)
def test_what_is_outside(address: str) -> None:
    assert forbidden(ipaddress.ip_address(address), ()) is None


def test_networks_that_are_allowed() -> None:
    allowed = (ipaddress.ip_network("10.1.0.0/16"), ipaddress.ip_network("fd00::/8"))
    assert forbidden(ipaddress.ip_address("10.1.2.3"), allowed) is None
    assert forbidden(ipaddress.ip_address("::ffff:10.1.2.3"), allowed) is None
    assert forbidden(ipaddress.ip_address("fd12::1"), allowed) is None
    assert forbidden(ipaddress.ip_address("10.2.2.3"), allowed) is not None
    assert forbidden(ipaddress.ip_address("fe80::1"), allowed) is not None


@pytest.mark.parametrize(
    "url",
    ["https://example.com/hook", "http://example.com:8080/a?b=c", "https://93.184.216.34", "https://a.b/%20"],
)
def test_urls_that_can_be_told(url: str) -> None:
    check_url(url, ())


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "does not begin with"),
        ("example.com/hook", "does not begin with"),
        ("ftp://example.com", "does not begin with"),
        ("file:///etc/passwd", "does not begin with"),
        ("http://", "does not begin with"),
        ("http://example.com:99999/", "Port"),
        ("http://example.com:x/", "Port"),
        ("http://example.com:0/", "Port"),
        ("http://[::1", "x-webhook-url"),
        ("http://example.com/a b", "spaces"),
        ("http://example.com/\r\nhost: other", "spaces"),
        ("http://exämple.com/", "ASCII"),
        ("http://example.com/#there", "#"),
        ("http://example.com/" + "a" * 2048, "2048"),
    ],
)
def test_urls_that_cannot(url: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        check_url(url, ())


def test_a_password_is_not_repeated() -> None:
    with pytest.raises(InvalidInput) as caught:
        check_url("https://me:hunter2@example.com/", ())
    assert "hunter2" not in str(caught.value)


def test_what_a_host_is() -> None:
    assert host_of("https://Example.com/a") == "example.com:443"
    assert host_of("http://example.com/a") == "example.com:80"
    assert host_of("http://example.com:443/b") == "example.com:443"
