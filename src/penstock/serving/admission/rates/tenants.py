"""Who asks: a tenant by its API key, else the address that a request comes from.

A tenant is a text: its name; `@` and an address; `#` and a digest. No name begins with either sign.
"""

import ipaddress
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import TypeVar

from penstock.core.errors import ConfigurationError, InvalidInput, shown
from penstock.serving.admission.rates.rule import check_tenant_name

__all__ = ["ApiKeys", "Tenants", "is_named", "parse_networks"]

K = TypeVar("K")
V = TypeVar("V")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

API_KEY = b"x-api-key"
AUTHORIZATION = b"authorization"
FORWARDED_FOR = b"x-forwarded-for"
KEY_LENGTH_MIN = 16
KEY_LENGTH_MAX = 1024
KEYS_MAX = 10_000
IPV6_PREFIX = 64
"""What one customer has of IPv6 is a /64 at least: single addresses of it are free to whoever asks."""
HOPS_MAX = 16
CACHED_MAX = 16_384
CACHED_BYTES_MAX = 128


class ApiKeys:
    """API keys and the tenants that have them. Of a key only a digest is kept, keyed with `secret`."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._names: dict[bytes, str] = {}

    def __repr__(self) -> str:
        return f"ApiKeys({len(self._names)} keys)"

    def __len__(self) -> int:
        return len(self._names)

    def add(self, name: str, key: object) -> None:
        """Raises `InvalidInput` for a key that cannot be one, or that another tenant has."""
        check_tenant_name(name)
        if not isinstance(key, str) or not KEY_LENGTH_MIN <= len(key) <= KEY_LENGTH_MAX:
            raise InvalidInput(
                f"a key of tenant {name!r} is no text of {KEY_LENGTH_MIN} to {KEY_LENGTH_MAX} characters",
                where="keys",
                hint="python -c 'import secrets; print(secrets.token_urlsafe(24))' makes a good one",
            )
        if not all("!" <= character <= "~" for character in key):
            raise InvalidInput(
                f"a key of tenant {name!r} has characters that a header cannot carry",
                where="keys",
                hint="use letters, digits and signs of ASCII, without spaces",
            )
        if len(self._names) >= KEYS_MAX:
            raise InvalidInput(f"there are more than {KEYS_MAX} API keys", where="keys")
        standing = self._names.setdefault(self.digest(key.encode()), name)
        if standing != name:
            raise InvalidInput(f"tenants {standing!r} and {name!r} have the same key", where="keys")

    @property
    def names(self) -> frozenset[str]:
        """The tenants that have any."""
        return frozenset(self._names.values())

    def digest(self, key: bytes) -> bytes:
        return blake2b(key, digest_size=16, key=self._secret).digest()

    def find(self, digest: bytes) -> str | None:
        """The tenant that has the key with this digest."""
        return self._names.get(digest)


class Tenants:
    """Tells tenants apart.

    A key that no tenant has counts for nothing, since anybody can make some up: who sends one is known by its
    address. With `trust_keys` each key is a tenant: for servers before which something checks keys. Addresses
    in `x-forwarded-for` count where the one who sent them is in `proxies`.
    """

    def __init__(self, keys: ApiKeys, *, proxies: Sequence[Network] = (), trust_keys: bool = False) -> None:
        self._keys = keys
        self._uses_keys = bool(len(keys)) or trust_keys
        self._proxies = tuple(proxies)
        self._trust_keys = trust_keys
        self._by_peer: dict[bytes, str] = {}
        self._proxy_peers: dict[bytes, bool] = {}
        self._by_hops: dict[tuple[bytes, bytes], str] = {}

    @property
    def has_keys(self) -> bool:
        """Whether anybody is known by a key, rather than everybody by an address."""
        return self._uses_keys

    def identify(self, headers: Mapping[bytes, bytes], peer: bytes) -> str:
        """The tenant of a request from `peer` with these headers, whose names are in lower case."""
        if self._uses_keys:
            key = headers.get(API_KEY) or _bearer(headers.get(AUTHORIZATION))
            if key:
                digest = self._keys.digest(key)
                name = self._keys.find(digest)
                if name is not None:
                    return name
                if self._trust_keys:
                    return f"#{digest.hex()}"
        if self._proxies:
            hops = headers.get(FORWARDED_FOR)
            if hops is not None:
                return self._forwarded(peer, hops)
        found = self._by_peer.get(peer)
        if found is None:
            found = _named(_parse(peer.decode("latin-1")))
            _keep(self._by_peer, peer, found)
        return found

    def is_proxy(self, peer: bytes) -> bool:
        """Whether that is one of the proxies, whose word on what they pass on counts."""
        if not self._proxies:
            return False
        found = self._proxy_peers.get(peer)
        if found is None:
            address = _parse(peer.decode("latin-1"))
            found = address is not None and self._is_proxy(address)
            _keep(self._proxy_peers, peer, found)
        return found

    def _forwarded(self, peer: bytes, hops: bytes) -> str:
        """By the nearest address that is none of the proxies': what is before it, anybody may have written."""
        cached = self._by_hops.get((peer, hops))
        if cached is not None:
            return cached
        address = _parse(peer.decode("latin-1"))
        for hop in reversed(hops[-4096:].decode("latin-1").split(",")[-HOPS_MAX:]):
            if address is None or not self._is_proxy(address):
                break
            before = _parse(hop.strip())
            if before is None:
                break
            address = before
        found = _named(address)
        if len(hops) <= CACHED_BYTES_MAX:
            _keep(self._by_hops, (peer, hops), found)
        return found

    def _is_proxy(self, address: Address) -> bool:
        return any(address in network for network in self._proxies)


def is_named(tenant: str) -> bool:
    """Whether a tenant is known by name, rather than by an address or a key that nobody declared."""
    return tenant[0] not in "@#"


def parse_networks(text: str) -> tuple[Network, ...]:
    """Networks, or addresses, with commas between them. Raises `ConfigurationError`."""
    found: list[Network] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        try:
            found.append(ipaddress.ip_network(part, strict=False))
        except ValueError:
            raise ConfigurationError(
                f"{shown(part)} is neither an address nor a network",
                hint="write e.g. 10.0.0.0/8,192.168.1.7,fd00::/8",
            ) from None
    return tuple(found)


def _bearer(value: bytes | None) -> bytes | None:
    if value is None or value[:7].lower() != b"bearer ":
        return None
    return value[7:].strip()


def _keep(cache: dict[K, V], key: K, found: V) -> None:
    if len(cache) >= CACHED_MAX:
        cache.clear()
    cache[key] = found


def _parse(text: str) -> Address | None:
    """An address as sockets, gRPC (`ipv6:%5B::1%5D`) and proxies (`1.2.3.4:56`, `[::1]:56`) write it."""
    if len(text) > CACHED_BYTES_MAX:
        return None
    text = text.removeprefix("ipv4:").removeprefix("ipv6:").replace("%5B", "[").replace("%5D", "]").strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        return address.ipv4_mapped or address
    return address


def _named(address: Address | None) -> str:
    if address is None:
        return "@"  # a socket of this machine's, or nothing that could be read
    if isinstance(address, ipaddress.IPv4Address):
        return f"@{address}"
    prefix = int(address) >> (128 - IPV6_PREFIX) << (128 - IPV6_PREFIX)
    return f"@{ipaddress.IPv6Address(prefix)}/{IPV6_PREFIX}"
