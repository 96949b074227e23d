"""Where a job's end may be told: URLs that can be one, and addresses that are not inside the network.

The name of a host is resolved once, and what is connected to is the address that was looked at: a name that
points elsewhere a moment later (DNS rebinding) changes nothing.
"""

import ipaddress
from collections.abc import Sequence
from urllib.parse import SplitResult, urlsplit

from penstock.core.errors import InvalidInput, shown

__all__ = ["WEBHOOK_URL", "Address", "Network", "check_url", "forbidden", "host_of", "parse_address", "port_of"]

WEBHOOK_URL = "x-webhook-url"
URL_LENGTH_MAX = 2048
_HINT = "send an absolute URL such as https://example.com/hooks/penstock"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_SPECIAL = (
    # IETF's protocols, with Teredo among them; documentation; 6to4, and where its relays were. What tunnels
    # end at, nobody can tell from here.
    ipaddress.ip_network("2001::/23"),
    ipaddress.ip_network("2001:db8::/32"),
    ipaddress.ip_network("2002::/16"),
    ipaddress.ip_network("3fff::/20"),
    ipaddress.ip_network("192.88.99.0/24"),
)
"""Source: IANA's registries of special-purpose addresses. The standard library's copies of them are older, and
of IPv6 they name what is special where what is handed out at all is the shorter list.
"""


def check_url(url: str, allowed: Sequence[Network]) -> None:
    """Raises `InvalidInput` for what is no URL of a webhook, or plainly is inside the network."""
    if len(url) > URL_LENGTH_MAX or not url.isascii() or not url.isprintable() or " " in url:
        raise _unusable(url, f"it has spaces, or other signs than ASCII, or more than {URL_LENGTH_MAX}")
    try:
        parts = urlsplit(url)
        port_of(parts)
    except ValueError as error:
        raise _unusable(url, str(error)) from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise _unusable(url, "it does not begin with http:// or https:// and a host")
    if parts.username is not None or parts.password is not None:
        # Not shown: there is a password in it.
        raise InvalidInput(
            f"{WEBHOOK_URL}: a user and password in it are not sent", where=WEBHOOK_URL, hint=_HINT
        )
    if parts.fragment:
        raise _unusable(url, "what follows # never reaches a server")
    address = parse_address(parts.hostname)
    reason = None if address is None else forbidden(address, allowed)
    if reason is not None:
        raise InvalidInput(f"{WEBHOOK_URL}: {reason}", where=WEBHOOK_URL, hint=_ALLOW)


_ALLOW = "the setting jobs.webhook_networks_allowed names networks inside that may be told"


def forbidden(address: Address, allowed: Sequence[Network]) -> str | None:
    """Why nothing is sent to that address; None: something may be."""
    inner = _inner(address)
    for each in {address, inner}:
        if any(each in network for network in allowed if network.version == each.version):
            return None
    if _is_public(inner):
        return None
    return f"{address} is not on the public internet"


def parse_address(host: str) -> Address | None:
    """The address that a URL's host is; None: it is a name."""
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None


def host_of(url: str) -> str:
    """The host and port: what gets only so many requests at a time."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{port_of(parts)}"


def port_of(parts: SplitResult) -> int:
    """Raises `ValueError` for what is no port."""
    if parts.port == 0:
        raise ValueError("Port 0 is none")
    if parts.port is not None:
        return parts.port
    return 443 if parts.scheme == "https" else 80


def _is_public(address: Address) -> bool:
    if any(address in network for network in _SPECIAL if network.version == address.version):
        return False
    if isinstance(address, ipaddress.IPv6Address):
        return address in _GLOBAL_UNICAST
    return address.is_global and not address.is_multicast


def _inner(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for, where it does: whoever routes it ends up there."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    inner = address.ipv4_mapped
    if inner is None and address in _NAT64:
        inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return inner or address


def _unusable(url: str, why: str) -> InvalidInput:
    return InvalidInput(f"{WEBHOOK_URL} {shown(url)}: {why}", where=WEBHOOK_URL, hint=_HINT)
