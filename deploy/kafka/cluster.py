"""Nodes of Apache Kafka on loopback, each a broker and a controller (KRaft), in a folder of their own."""

import base64
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from deploy.kafka.artifacts import Unavailable, java_and_jars

__all__ = ["Cluster", "Node", "running_cluster"]

HOST = "127.0.0.1"
LOGGING = Path(__file__).with_name("log4j2.properties")
READY = "Kafka Server started"
READY_S_MAX = 90.0
STOP_S_MAX = 20.0
LOOK_S = 0.05
# Small and slow to warm up is better here than large and quick in the end: two cores are all there may be.
JAVA_FLAGS = (
    *("-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"),
    *("-Djava.awt.headless=true", "-Djava.net.preferIPv4Stack=true", f"-Dlog4j2.configurationFile={LOGGING}"),
)
SMALL = {
    "auto.create.topics.enable": "false",
    "background.threads": "2",
    "broker.heartbeat.interval.ms": "500",
    "broker.session.timeout.ms": "3000",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    # What the cleaner takes by default would fill half of the heap.
    "log.cleaner.dedupe.buffer.size": str(4 * 2**20),
    "log.index.size.max.bytes": str(2**20),
    "log.retention.check.interval.ms": "2000",
    "log.segment.bytes": str(16 * 2**20),
    "log.segment.delete.delay.ms": "1000",
    "num.io.threads": "4",
    "num.network.threads": "2",
    "offsets.topic.num.partitions": "4",
    "offsets.topic.segment.bytes": str(2**20),
    "transaction.state.log.num.partitions": "4",
    "transaction.state.log.segment.bytes": str(2**20),
}


class Node:
    """One process of Kafka."""

    def __init__(self, number: int, port: int, folder: Path, java: list[str]) -> None:
        self.number = number
        self.port = port
        self.log = folder / "log"
        self._properties = folder / "server.properties"
        self._java = java
        self._process: subprocess.Popen[bytes] | None = None
        self._said_bytes = 0

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "the node has been started"
        return self._process.pid

    def format(self, cluster: str) -> None:
        """Makes its storage. Raises `Unavailable` where Kafka refuses."""
        command = ["kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(self._properties)]
        done = subprocess.run(
            [*self._java, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, check=False
        )
        if done.returncode != 0:
            raise Unavailable(f"Kafka's storage could not be made:\n{done.stdout.decode()[-2000:]}")

    def start(self) -> None:
        """Also again, after it was stopped or killed. `wait_until_ready` says when it can be used."""
        assert self._process is None or self._process.poll() is not None, "it is not running"
        self._said_bytes = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._java, "kafka.Kafka", str(self._properties)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_until_ready(self, timeout_s: float = READY_S_MAX) -> None:
        """Raises `Unavailable` where it ends, or is not ready in time."""
        assert self._process is not None, "the node has been started"
        deadline_s = time.monotonic() + timeout_s
        while READY not in (said := self._said()):
            if self._process.poll() is not None:
                raise Unavailable(f"node {self.number} of Kafka ended:\n{said[-2000:]}")
            if time.monotonic() > deadline_s:
                raise Unavailable(
                    f"node {self.number} of Kafka is not ready after {timeout_s} s:\n{said[-2000:]}"
                )
            time.sleep(LOOK_S)

    def signal(self, number: signal.Signals) -> None:
        """SIGSTOP and SIGCONT, say."""
        assert self._process is not None, "the node has been started"
        self._process.send_signal(number)

    def kill(self) -> None:
        """As by kill -9. What it has on disk stays."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        """In order, and by force where that takes too long."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            self.kill()

    def _said(self) -> str:
        with self.log.open("rb") as log:
            log.seek(self._said_bytes)
            return log.read().decode(errors="replace")


class Cluster:
    """Nodes that know each other. `address` is what clients are given."""

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes

    @property
    def address(self) -> str:
        return ",".join(node.address for node in self.nodes)


@contextmanager
def running_cluster(
    folder: Path, *, nodes: int = 1, port: int = 0, settings: Mapping[str, str] | None = None
) -> Iterator[Cluster]:
    """So many nodes that are ready, in a new folder; they are killed at the end, and the folder is for
    whoever made it. `port` is the first node's (0: a free one), `settings` are Kafka's, for all nodes, and
    go before those here. Raises `Unavailable`.
    """
    assert nodes >= 1, "a cluster has nodes"
    java, jars = java_and_jars()
    cluster = Cluster(_configured(folder, nodes, port, settings or {}, [java, *JAVA_FLAGS, "-cp", f"{jars}/*"]))
    name = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    for node in cluster.nodes:
        node.format(name)
    with ExitStack() as stack:
        for node in cluster.nodes:
            stack.callback(node.kill)
            node.start()
        for node in cluster.nodes:
            node.wait_until_ready()
        yield cluster


def _configured(
    folder: Path, count: int, port: int, settings: Mapping[str, str], java: list[str]
) -> list[Node]:
    ports = _free_ports(2 * count)
    brokers, controllers = ports[:count], ports[count:]
    if port:
        brokers[0] = port
    voters = ",".join(f"{number}@{HOST}:{each}" for number, each in enumerate(controllers, 1))
    nodes = []
    for number, (broker, controller) in enumerate(zip(brokers, controllers, strict=True), 1):
        of_node = folder / f"node-{number}"
        of_node.mkdir(parents=True)
        properties = {
            **SMALL,
            **_replication(count),
            "process.roles": "broker,controller",
            "node.id": str(number),
            "controller.quorum.voters": voters,
            "listeners": f"PLAINTEXT://{HOST}:{broker},CONTROLLER://{HOST}:{controller}",
            "advertised.listeners": f"PLAINTEXT://{HOST}:{broker}",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": str(of_node / "data"),
            **settings,
        }
        lines = [f"{name}={value}\n" for name, value in properties.items()]
        (of_node / "server.properties").write_text("".join(lines), encoding="utf-8")
        nodes.append(Node(number, broker, of_node, java))
    return nodes


def _replication(count: int) -> dict[str, str]:
    """Three copies, of which two must be there, where there are so many nodes."""
    copies, in_sync = min(count, 3), 2 if count >= 3 else 1
    internal = ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic")
    return {
        "default.replication.factor": str(copies),
        "min.insync.replicas": str(in_sync),
        **{f"{name}.replication.factor": str(copies) for name in internal},
        **{f"{name}.min.isr": str(in_sync) for name in internal[1:]},
    }


def _free_ports(count: int) -> list[int]:
    """All of them at once, so that none comes twice."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((HOST, 0))
        return [each.getsockname()[1] for each in sockets]
