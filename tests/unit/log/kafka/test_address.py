"""Brokers as a URL names them."""

import pytest

from penstock.core.errors import ConfigurationError
from penstock.log.kafka.address import brokers_of


@pytest.mark.parametrize(
    ("url", "brokers"),
    [
        ("kafka://host", "host:9092"),
        ("kafka://a:1,b.example-x.org", "a:1,b.example-x.org:9092"),
        ("kafka://[::1]:9093/", "[::1]:9093"),
    ],
)
def test_brokers(url: str, brokers: str) -> None:
    assert brokers_of(url) == brokers


@pytest.mark.parametrize(
    "url", ["kafka://", "kafka://a,,b", "kafka://a:0", "kafka://a:99999", "kafka://a/topic"]
)
def test_what_is_no_broker(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"log\.url"):
        brokers_of(url)


def test_a_password_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigurationError) as error:
        brokers_of("kafka://user:pa55@host")
    assert "pa55" not in str(error.value)
    assert "kafka.password" in (error.value.hint or "")
