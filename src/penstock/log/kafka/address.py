"""The brokers that a URL names."""

import re

from penstock.core.errors import ConfigurationError, shown

__all__ = ["SCHEME", "brokers_of"]

SCHEME = "kafka"
PORT = 9092
BROKERS_MAX = 64
_BROKER = re.compile(r"(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:(?P<port>\d{1,5}))?")
HINT = "write kafka://host:9092, with commas between several; what else there is to say stands in [kafka]"


def brokers_of(url: str) -> str:
    """`kafka://a,b:9093` as clients want it: `a:9092,b:9093`.

    Raises `ConfigurationError`, which does not repeat what may be a password.
    """
    scheme, _, rest = url.partition("://")
    assert scheme == SCHEME, "the URL is Kafka's"
    if "@" in rest:
        raise ConfigurationError(
            "log.url holds a user or a password", hint="set kafka.sasl, kafka.user and kafka.password instead"
        )
    named = rest.removesuffix("/").split(",")
    if len(named) > BROKERS_MAX:
        raise ConfigurationError(f"log.url names {len(named)} brokers", hint=f"name {BROKERS_MAX} at most")
    return ",".join(map(_broker, named))


def _broker(text: str) -> str:
    found = _BROKER.fullmatch(text)
    if found is None:
        raise ConfigurationError(f"log.url: {shown(text)} is no broker", hint=HINT)
    port = int(found["port"] or PORT)
    if not 1 <= port <= 65_535:
        raise ConfigurationError(f"log.url: {shown(text)} has no port that can be", hint=HINT)
    return f"{found['host']}:{port}"
