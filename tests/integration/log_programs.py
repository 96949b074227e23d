"""What tests of the log run in other processes: `log_programs.py NAME FOLDER …`. They say what happens."""

import sys
import threading
from collections.abc import Collection
from pathlib import Path

import numpy as np

from penstock.core.clock import SystemClock
from penstock.core.errors import Fenced
from penstock.log.embedded import EmbeddedLog, LogLimits
from penstock.log.embedded.write_lock import WriteLock
from penstock.log.records import Records, TopicPartition

RECORDS_MAX = 50


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def one(value: str) -> Records:
    return Records(values=[value.encode()], times_ms=np.zeros(1, dtype=np.int64))


def produce(folder: Path, name: str, count: int, partitions: int) -> None:
    """Appends `name:0`, `name:1`, … by turns, and says how many of them are durable."""
    with EmbeddedLog(folder, SystemClock()) as log:
        producer = log.producer()
        for start in range(0, count, partitions):
            futures = [
                producer.append(TopicPartition("in", number), one(f"{name}:{start + number}"))
                for number in range(partitions)
            ]
            for future in futures:
                future.result(60)
            say("durable", start + partitions)
        producer.close()
    say("done")


def copy(folder: Path, name: str, lease_s: float) -> None:
    """Copies what its share of the group brings from `in` to `out`, until it is killed."""
    with EmbeddedLog(folder, SystemClock(), LogLimits(lease_s=lease_s)) as log:
        consumer = log.consumer("copiers")
        producer = log.transactional(name)

        class Saying:
            def assigned(self, partitions: Collection[TopicPartition]) -> None:
                say("assigned", *sorted(map(str, partitions)))

            def revoked(self, partitions: Collection[TopicPartition]) -> None:
                say("revoked", *sorted(map(str, partitions)))

            def lost(self, partitions: Collection[TopicPartition]) -> None:
                say("lost", *sorted(map(str, partitions)))

        consumer.subscribe(["in"], Saying())
        while True:
            fetched = consumer.poll(records_max=RECORDS_MAX, bytes_max=1 << 20, timeout_s=0.2)
            if not fetched:
                continue
            membership = consumer.membership()
            transaction = producer.begin()
            for each in fetched:
                transaction.append(TopicPartition("out", each.source.partition), each.records)
            transaction.commit_offsets({each.source: each.next_offset for each in fetched}, membership)
            try:
                transaction.commit()
            except Fenced:
                say("fenced")
                continue
            say("copied", sum(len(each.records) for each in fetched))


def polled_and_slow(folder: Path, lease_s: float) -> None:
    """Polls, says so, and commits what it polled only once a line comes in."""
    with EmbeddedLog(folder, SystemClock(), LogLimits(lease_s=lease_s)) as log:
        consumer = log.consumer("copiers")
        told: list[str] = []

        class Remembering:
            def assigned(self, partitions: Collection[TopicPartition]) -> None:
                told.append("assigned")

            def revoked(self, partitions: Collection[TopicPartition]) -> None:
                told.append("revoked")

            def lost(self, partitions: Collection[TopicPartition]) -> None:
                told.append("lost")

        consumer.subscribe(["in"], Remembering())
        fetched = consumer.poll(records_max=RECORDS_MAX, bytes_max=1 << 20, timeout_s=10)
        transaction = log.transactional("slow").begin()
        for each in fetched:
            transaction.append(TopicPartition("out", each.source.partition), each.records)
        transaction.commit_offsets({each.source: each.next_offset for each in fetched}, consumer.membership())
        say("polled")
        sys.stdin.readline()
        try:
            transaction.commit()
        except Fenced:
            say("fenced")
        consumer.poll(records_max=1, bytes_max=1, timeout_s=0)
        say(*told)
        consumer.close()


def keep_lock(folder: Path) -> None:
    with WriteLock(folder):
        say("locked")
        threading.Event().wait()


if __name__ == "__main__":
    at = Path(sys.argv[2])
    match sys.argv[1]:
        case "produce":
            produce(at, sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
        case "copy":
            copy(at, sys.argv[3], float(sys.argv[4]))
        case "polled-and-slow":
            polled_and_slow(at, float(sys.argv[3]))
        case "keep-lock":
            keep_lock(at)
