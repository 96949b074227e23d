"""What is held against a plan before anybody works by it."""

from pathlib import Path
from threading import Event

import numpy as np
import polars as pl
import pytest

import penstock as ps
from penstock.core.clock import ManualClock
from penstock.core.errors import ConfigurationError
from penstock.core.failpoints import Failpoints
from penstock.log.opening import open_log
from penstock.log.records import Records, TopicPartition
from penstock.streams.checking import check_folders, check_state
from penstock.streams.topology import Topology, topology
from penstock.streams.worker import StreamWorker
from penstock.streams.worker_config import WorkerConfig


class Turns(Event):
    """Ends a worker's run after so many turns."""

    def __init__(self, clock: ManualClock, count: int) -> None:
        super().__init__()
        self._clock, self._left = clock, count

    def is_set(self) -> bool:
        self._clock.advance(0.25)
        self._left -= 1
        return self._left < 0


class Kept:
    """A log with the state of an app that has run."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock()
        self.log = open_log("", folder, self.clock)
        self._folder = folder

    def run(self, planned: Topology, values: list[bytes]) -> None:
        self.log.admin.ensure_topics(planned.topics)
        producer = self.log.producer()
        times_ms = np.full(len(values), 1_700_000_000_000, dtype=np.int64)
        producer.append(TopicPartition("events", 0), Records(values=values, times_ms=times_ms)).result()
        producer.close()
        config = WorkerConfig(group="app", identity="one", folder=self._folder / "streams", tick_s=0.0)
        StreamWorker(config, planned.by_source, self.log, self.clock, Failpoints()).run(Turns(self.clock, 12))

    def check(self, planned: Topology) -> None:
        check_state(self.log.admin, "app", planned.stages)


def planned(over: str = "1m", name: str | None = None, **aggregates: object) -> Topology:
    app = ps.App("app")
    stream = app.stream("events", schema={"key": pl.String})
    stream.deduplicate("key", within="1s").into("once")
    view = stream.window(key="key", over=over, name=name)
    view.agg(**(aggregates or {"n": ps.count()})).into("counts")  # type: ignore[arg-type]
    return topology(app.streams.graph, {})


def test_a_window_of_another_length_is_refused_before_anybody_works_on_it(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.check(planned())
    kept.run(planned(), [b'{"key": "a"}', b'{"key": "b"}'])
    # Changes after which the window's state stays as it is, so that they say nothing of it.
    kept.run(planned(), [b"none", b"none"])
    kept.check(planned())
    for changed in (planned("2m"), planned("1m", s=ps.distinct("key"))):
        with pytest.raises(ConfigurationError, match="stage 'events': 'window key' was changed") as caught:
            kept.check(changed)
        assert "name=" in str(caught.value.hint)
    kept.check(planned("2m", name="longer"))
    kept.log.admin.reset("app", {TopicPartition("events", 0): 0})
    kept.check(planned("2m"))


def test_a_folder_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    check_folders([tmp_path / "new" / "folder"])
    assert (tmp_path / "new" / "folder").is_dir()
    for folder in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/none")):
        with pytest.raises(ConfigurationError, match=f"no rows can be written into {folder}: "):
            check_folders([folder])
