"""What topics need not keep goes, in whole frames, and nothing else does."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from penstock.core.clock import ManualClock
from penstock.log.embedded import EmbeddedLog, LogLimits
from penstock.log.embedded.retention import FRAMES_MAX
from penstock.log.port import TopicSpec
from penstock.log.records import Records, TopicPartition

RNG = np.random.default_rng(3)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def log(tmp_path: Path, clock: ManualClock) -> Iterator[EmbeddedLog]:
    with EmbeddedLog(tmp_path, clock, LogLimits(retention_every_s=30)) as log:
        log.admin.ensure_topics(
            [
                TopicSpec(name="aged", retention_s=100),
                TopicSpec(name="sized", retention_bytes=10_000),
                TopicSpec(name="whole"),
            ]
        )
        yield log


def append(log: EmbeddedLog, topic: str, count: int = 2, size_bytes: int = 1000) -> None:
    """Of long ago, by their own times."""
    records = Records(
        values=[RNG.bytes(size_bytes) for _ in range(count)], times_ms=np.zeros(count, dtype=np.int64)
    )
    log.producer().append(TopicPartition(topic, 0), records).result(10)


def begins(log: EmbeddedLog) -> dict[str, int]:
    return {info.spec.name: info.begins[0] for info in log.admin.topics()}


def test_by_age_of_the_append_not_of_the_event(log: EmbeddedLog, clock: ManualClock) -> None:
    for topic in ("aged", "whole"):
        append(log, topic)
    clock.advance(60)
    append(log, "aged")
    log.admin.retain()
    assert begins(log) == {"aged": 0, "sized": 0, "whole": 0}
    clock.advance(60)
    log.admin.retain()
    assert begins(log) == {"aged": 2, "sized": 0, "whole": 0}
    clock.advance(60)
    log.admin.retain()
    assert begins(log)["aged"] == 4
    append(log, "aged")
    assert log.admin.read(TopicPartition("aged", 0), 0, records_max=9).offsets.tolist() == [4, 5]


def test_by_size(log: EmbeddedLog) -> None:
    for _ in range(10):
        append(log, "sized")
    log.admin.retain()
    (sized,) = (info for info in log.admin.topics() if info.spec.name == "sized")
    assert sized.size_bytes <= 10_000
    assert sized.begins == (12,)
    append(log, "sized", size_bytes=20_000)
    log.admin.retain()
    assert begins(log)["sized"] == 20, "the last frame stays"


def test_writers_see_to_it_now_and_then(log: EmbeddedLog, clock: ManualClock) -> None:
    append(log, "aged")
    clock.advance(101)
    append(log, "whole")
    append(log, "whole")
    assert begins(log)["aged"] == 2


def test_many_frames_go_in_several_transactions(log: EmbeddedLog, clock: ManualClock) -> None:
    for _ in range(2 * FRAMES_MAX + 1):
        append(log, "aged", size_bytes=1)
    clock.advance(200)
    log.admin.retain()
    assert begins(log)["aged"] == 2 * (2 * FRAMES_MAX + 1)
    assert all(info.size_bytes == 0 for info in log.admin.topics())
