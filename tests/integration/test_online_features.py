"""The online store between processes: who reads sees each put whole, whatever becomes of who writes."""

import subprocess
import sys
from pathlib import Path

import pytest

from penstock.core.tensors import DataType
from penstock.features.embedded import EmbeddedOnlineStore
from penstock.features.online import Progress, read_record
from penstock.features.view import Feature, FeatureView, KeyColumn

VIEW = FeatureView(
    name="rounds",
    keys=(KeyColumn(name="k", datatype=DataType.STRING),),
    features=(Feature(name="round", datatype=DataType.INT64, default=0),),
    topic="app.rounds.features",
)
KEYS = [b"%d" % number for number in range(200)]
PATIENCE_S = 60.0
WRITER = """
import sys
from pathlib import Path
from test_online_features import KEYS, VIEW
from penstock.features.embedded import EmbeddedOnlineStore
from penstock.features.online import Progress, Update

home, partition, first = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
writer = EmbeddedOnlineStore(home).writer(VIEW)
own = KEYS[partition::2]
for number in range(first, first + 100_000):
    said = b"%d" % number * 50
    updates = [Update(key, number * 1000 + place, number, said) for place, key in enumerate(own)]
    writer.put(partition, updates, Progress(partition, number, number * 1000 + 999, number))
    print(number, flush=True)
"""


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
        assert said == b"%d" % progress.as_of_ms * 50, "a put is seen whole"
        assert len(records) == len(KEYS) // 2
        found[progress.partition] = progress.as_of_ms
    return found


@pytest.mark.parametrize("_turn", range(2))
def test_two_writers_are_read_meanwhile_and_killed_and_nothing_that_was_written_is_lost(tmp_path, _turn):
    store = EmbeddedOnlineStore(tmp_path)
    assert rounds_of(store) == {}
    written = {0: 0, 1: 0}
    for life in range(3):
        writers = {partition: start(tmp_path, partition, written[partition]) for partition in written}
        try:
            for _ in range(10):
                for partition, process in writers.items():
                    written[partition] = heard(process, 3)
                seen = rounds_of(store)
                assert all(seen[partition] >= written[partition] for partition in written), (
                    life,
                    seen,
                    written,
                )
        finally:
            for process in writers.values():
                process.kill()
                process.communicate(timeout=PATIENCE_S)
    after = rounds_of(store)
    assert all(after[partition] >= written[partition] for partition in written)
    reader = store.reader()
    assert reader.read(VIEW, []).progress == tuple(
        Progress(partition, after[partition], after[partition] * 1000 + 999, after[partition])
        for partition in (0, 1)
    )
    reader.close()
