"""The online store between processes: who reads sees each put whole, whatever becomes of who writes."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from penstock.core.tensors import DataType
from penstock.features.embedded import EmbeddedOnlineStore
from penstock.features.online import Progress, read_record
from penstock.features.reader import ViewReader
from penstock.features.timeline import TimelineRows, write_timelines
from penstock.features.view import Feature, FeatureView, KeyColumn, encode_keys

VIEW = FeatureView(
    name="rounds",
    keys=(KeyColumn(name="k", datatype=DataType.STRING),),
    features=(Feature(name="round", datatype=DataType.INT64, default=0),),
    topic="app.rounds.features",
)
NAMES = [str(number) for number in range(200)]
KEYS = encode_keys([NAMES])
PATIENCE_S = 60.0
WRITER = """
import sys
from pathlib import Path
from test_online_features import KEYS, VIEW, said_in
from penstock.features.embedded import EmbeddedOnlineStore
from penstock.features.online import Progress, Update

home, partition, first = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
writer = EmbeddedOnlineStore(home).writer(VIEW)
own = KEYS[partition::2]
for number in range(first, first + 100_000):
    said = said_in(number)
    updates = [Update(key, number * 1000 + place, number, said) for place, key in enumerate(own)]
    writer.put(partition, updates, Progress(partition, number, number * 1000 + 999, number))
    print(number, flush=True)
"""


def said_in(number: int) -> bytes:
    """What a round says of each key."""
    once = np.array([1])
    return write_timelines(TimelineRows(once, [np.array([number])], [None], once))[0]


def start(home: Path, partition: int, first: int) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(home), str(partition), str(first)],
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )


def heard(process: "subprocess.Popen[str]", rounds: int) -> int:
    """The last of so many rounds more that it says are written."""
    assert process.stdout is not None
    said = ""
    for _ in range(rounds):
        said = process.stdout.readline()
    return int(said)


def rounds_of(store: EmbeddedOnlineStore) -> dict[int, int]:
    """The round of each partition, which every key of it has, and which its progress tells."""
    reader = store.reader()
    answer = reader.read(VIEW, KEYS)
    reader.close()
    found = {}
    for progress in answer.progress:
        records = [each for each in answer.records[progress.partition :: 2] if each is not None]
        (said,) = {read_record(each)[2] for each in records}
        assert said == said_in(progress.as_of_ms), "a put is seen whole"
        assert len(records) == len(KEYS) // 2
        found[progress.partition] = progress.as_of_ms
    return found


class Strict:
    def read(self, view, reading):
        """Nothing to count."""

    def failed(self, view, error):
        raise AssertionError(f"{view.name}: {error}")


def held_rounds_of(reader: ViewReader) -> dict[int, int]:
    """As `rounds_of`, by one who holds what it has read."""
    reading = reader.read([NAMES])
    rounds = reading.columns[0].tolist()
    for partition in (0, 1):
        own = set(zip(rounds[partition::2], reading.as_of_ms[partition::2].tolist(), strict=True))
        ((said, as_of_ms),) = own
        assert said == as_of_ms, "records and progress are of one moment"
    return {partition: rounds[partition] for partition in (0, 1)}


@pytest.mark.parametrize("_turn", range(2))
def test_two_writers_are_read_meanwhile_and_killed_and_nothing_that_was_written_is_lost(tmp_path, _turn):
    store = EmbeddedOnlineStore(tmp_path)
    assert rounds_of(store) == {}
    written = {0: 0, 1: 0}
    held = ViewReader(VIEW, store.reader(), lambda: 0, Strict())
    for life in range(3):
        writers = {partition: start(tmp_path, partition, written[partition]) for partition in written}
        try:
            for _ in range(10):
                for partition, process in writers.items():
                    written[partition] = heard(process, 3)
                for seen in (rounds_of(store), held_rounds_of(held)):
                    behind = [partition for partition in written if seen[partition] < written[partition]]
                    assert not behind, (life, seen, written)
        finally:
            for process in writers.values():
                process.kill()
                process.communicate(timeout=PATIENCE_S)
    after = rounds_of(store)
    assert all(after[partition] >= written[partition] for partition in written)
    assert held_rounds_of(held) == after, "the last word of who was killed is not missed"
    reader = store.reader()
    assert reader.read(VIEW, []).progress == tuple(
        Progress(partition, after[partition], after[partition] * 1000 + 999, after[partition])
        for partition in (0, 1)
    )
    reader.close()
