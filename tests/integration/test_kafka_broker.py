"""The brokers that tests and users are given: they go on without one of three, and end in the end."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic
from deploy.kafka import artifacts
from kafka_broker import ROOT, running_nodes, shared_broker

FOLDER = ROOT / "deploy" / "kafka"


def written(address: str, topic: str) -> None:
    producer = Producer({"bootstrap.servers": address, "acks": "all", "message.timeout.ms": 20_000})
    producer.produce(topic, b"value")
    assert producer.flush(30) == 0


def made(address: str, topic: str, copies: int) -> None:
    client = AdminClient({"bootstrap.servers": address})
    client.create_topics([NewTopic(topic, 1, copies)])[topic].result(30)


def test_the_shared_one_is_one_for_all_and_takes_records(kafka: str, tmp_path: Path) -> None:
    made(kafka, "test-kafka-broker", 1)
    written(kafka, "test-kafka-broker")
    with pytest.raises(KafkaException, match="EXIST"):
        made(kafka, "test-kafka-broker", 1)


def test_it_ends_with_the_last_that_uses_it(
    kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PENSTOCK_TEST_KAFKA", raising=False)
    with shared_broker(tmp_path) as address:
        with shared_broker(tmp_path) as again:
            assert again == address
        made(address, "still-there", 1)
    with pytest.raises(KafkaException):
        AdminClient({"bootstrap.servers": address, "log_level": 0}).list_topics(timeout=3)
    with shared_broker(tmp_path) as another:
        assert another != address


def test_three_go_on_without_one(kafka: str, tmp_path: Path) -> None:
    with running_nodes(tmp_path, 3) as cluster:
        made(cluster.address, "three", 3)
        written(cluster.address, "three")
        cluster.nodes[0].kill()
        written(cluster.nodes[1].address, "three")
        cluster.nodes[0].start()
        cluster.nodes[0].wait_until_ready()
        written(cluster.nodes[0].address, "three")


def test_the_command_says_where_it_is_and_ends_when_told(kafka: str) -> None:
    command = [sys.executable, "-m", "deploy.kafka"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        made(address, "topic", 1)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


def test_without_java_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(artifacts.Unavailable, match="java is not installed"):
        artifacts.java_and_jars()


def test_docker_has_the_same_version() -> None:
    (version,) = re.findall(r"<kafka.version>(.*)</", (FOLDER / "pom.xml").read_text())
    for file in FOLDER.glob("docker-compose*.yml"):
        assert set(re.findall(r"image: apache/kafka:(\S+)", file.read_text())) == {version}
