"""Settings, and what librdkafka is told for them."""

from pathlib import Path

import pytest

from penstock.core.errors import ConfigurationError
from penstock.core.settings import KafkaSettings
from penstock.log.kafka.configuration import ClientConfiguration, Properties


def properties(settings: KafkaSettings) -> Properties:
    return ClientConfiguration(brokers="host:9092", settings=settings).common()


@pytest.mark.parametrize(
    ("settings", "protocol"),
    [
        (KafkaSettings(), "PLAINTEXT"),
        (KafkaSettings(tls=True), "SSL"),
        (KafkaSettings(sasl="PLAIN", user="u", password="p"), "SASL_PLAINTEXT"),
        (KafkaSettings(tls=True, sasl="SCRAM-SHA-512", user="u", password="p"), "SASL_SSL"),
    ],
)
def test_protocols(settings: KafkaSettings, protocol: str) -> None:
    found = properties(settings)
    assert found["security.protocol"] == protocol
    assert found.get("sasl.password") == (settings.password or None)
    assert found.get("sasl.mechanism") == (settings.sasl or None)


def test_tokens() -> None:
    settings = KafkaSettings(
        sasl="OAUTHBEARER",
        oauth_token_url="https://x/token",
        oauth_client="c",
        oauth_secret="s",
        oauth_scope="k",
    )
    found = properties(settings)
    assert found["sasl.oauthbearer.method"] == "oidc"
    assert found["sasl.oauthbearer.token.endpoint.url"] == "https://x/token"
    assert (found["sasl.oauthbearer.client.id"], found["sasl.oauthbearer.client.secret"]) == ("c", "s")
    assert found["sasl.oauthbearer.scope"] == "k"


def test_certificates(tmp_path: Path) -> None:
    file = tmp_path / "file.pem"
    file.touch()
    named = {"tls_ca_file": str(file), "tls_certificate_file": str(file), "tls_key_file": str(file)}
    found = properties(KafkaSettings(tls=True, tls_key_password="p", **named))
    assert (
        found["ssl.ca.location"] == found["ssl.certificate.location"] == found["ssl.key.location"] == str(file)
    )
    assert found["ssl.key.password"] == "p"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (KafkaSettings(sasl="PLAIN", user="u"), "needs kafka.password"),
        (KafkaSettings(sasl="OAUTHBEARER", oauth_client="c"), "kafka.oauth_token_url and kafka.oauth_secret"),
        (KafkaSettings(password="secret"), "kafka.password is set"),
        (KafkaSettings(sasl="PLAIN", user="u", password="p", oauth_scope="s"), "kafka.oauth_scope is set"),
        (KafkaSettings(tls_ca_file="/etc/ca"), "without kafka.tls"),
        (KafkaSettings(tls=True, tls_ca_file="/none/ca.pem"), "there is no file /none/ca.pem"),
        (KafkaSettings(replication=1, in_sync_min=2), "kafka.in_sync_min is 2"),
    ],
)
def test_what_does_not_go_together(settings: KafkaSettings, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as error:
        ClientConfiguration(brokers="host:9092", settings=settings)
    assert "secret" not in str(error.value).replace("oauth_secret", "")


def test_secrets_are_not_shown() -> None:
    settings = KafkaSettings(
        sasl="PLAIN", user="u", password="pa55", tls_key_password="k3y", oauth_secret="0auth"
    )
    assert not any(secret in repr(settings) for secret in ("pa55", "k3y", "0auth"))


def test_consumers_and_producers_are_safe() -> None:
    configuration = ClientConfiguration(brokers="host:9092", settings=KafkaSettings(), lease_s=8.0)
    consumer = configuration.consumer("group")
    assert consumer["isolation.level"] == "read_committed"
    assert consumer["enable.auto.commit"] is False
    assert consumer["auto.offset.reset"] == "error"
    assert (consumer["session.timeout.ms"], consumer["heartbeat.interval.ms"]) == (8000, 2000)
    producer = configuration.transactional("one")
    assert (producer["enable.idempotence"], producer["acks"]) == (True, "all")
    assert (producer["transactional.id"], producer["transaction.timeout.ms"]) == ("one", 60_000)
    assert int(producer["message.timeout.ms"]) <= int(producer["transaction.timeout.ms"])
