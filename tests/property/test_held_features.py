"""Who holds what was read of features says the same as who reads all of it anew, whatever happened since."""

from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.tensors import DataType
from penstock.features import reader
from penstock.features.embedded import EmbeddedOnlineStore, online_writer
from penstock.features.online import Progress, Update
from penstock.features.reader import ViewReader
from penstock.features.timeline import TimelineRows, write_timelines
from penstock.features.view import Feature, FeatureView, KeyColumn, encode_keys

NAMES = [f"key {number}" for number in range(12)]
FEW_BYTES = 3_000
"""Room for some of the keys."""
KEYS = st.lists(st.sampled_from(NAMES), min_size=1, max_size=6, unique=True)
ACTS = st.one_of(
    st.tuples(st.just("put"), KEYS, st.integers(1, 4)),
    st.tuples(st.just("put"), st.just(NAMES), st.integers(1, 4)),
    st.tuples(st.just("fill"), KEYS, st.integers(1, 3)),
    st.tuples(st.sampled_from(["time", "defined anew", "defined back", "file moved"]), st.just([]), st.just(0)),
    st.tuples(st.just("topic anew"), KEYS, st.just(1)),
)
READ = st.one_of(
    st.just([]), st.just([]), st.just(NAMES), st.lists(st.sampled_from(NAMES), min_size=1, max_size=15)
)


def view(definition: int) -> FeatureView:
    return FeatureView(
        name="v",
        keys=(KeyColumn(name="k", datatype=DataType.STRING),),
        features=tuple(Feature(name=each, datatype=DataType.INT64, default=-1) for each in ("a", "b")),
        topic="t",
        definition=str(definition),
    )


class Strict:
    def read(self, of, reading):
        """Nothing to count."""

    def failed(self, of, error):
        raise AssertionError(str(error))


class World:
    """A store that somebody writes, and readers who hold much, little and nothing."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.store = EmbeddedOnlineStore(home, count().__next__)
        self.definition = self.moved = 0
        self.clock = 100
        self.offset = 0
        self.written = 0
        self.begin()

    def begin(self) -> None:
        self.view = view(self.definition)
        self.writer = self.store.writer(self.view)
        self.readers = [
            ViewReader(self.view, self.store.reader(), lambda: 0, Strict(), held) for held in (10**6, FEW_BYTES)
        ]

    def updates(self, keys: list[str], steps: int) -> list[Update]:
        """Each with a new value, in which the key can be seen."""
        found = []
        for key, encoded in zip(keys, encode_keys([keys]), strict=True):
            self.written += 1
            from_ms = np.arange(steps) * 10
            columns = [np.arange(steps) + self.written * 100, np.full(steps, NAMES.index(key))]
            masks = [np.arange(steps) % 2 == 0, None]
            (line,) = write_timelines(TimelineRows(from_ms, columns, masks, np.array([steps])))
            found.append(Update(encoded, self.offset + len(found), self.clock, line))
        self.offset += len(keys)
        return found

    def told(self) -> Progress:
        self.clock += 1
        return Progress(0, self.clock % 50, self.offset, self.clock)

    def do(self, act: str, keys: list[str], steps: int) -> None:
        match act:
            case "put":
                self.writer.put(0, self.updates(keys, steps), self.told())
            case "time":
                self.writer.put(0, [], self.told())
            case "fill":
                self.writer.fill(self.updates(keys, steps))
            case "topic anew":
                self.offset, self.clock = 0, self.clock + 1000
                self.writer.put(0, self.updates(keys, steps), self.told())
            case "defined anew":
                self.definition += 1
                self.store.writer(view(self.definition)).close()
                assert not any(self.said(each, NAMES)[2] != [-1] * len(NAMES) for each in self.readers)
                self.begin()
            case "defined back":
                self.store.writer(view(-1)).close()
                self.writer = self.store.writer(self.view)
            case "file moved" if self.store.path.exists():
                self.moved += 1
                self.store.path.rename(self.store.path.with_name(f"moved {self.moved}"))

    def said(self, by: ViewReader, keys: list[str]) -> tuple[list[object], ...]:
        reading = by.read([keys])
        columns = [each.tolist() for each in (*reading.columns, *reading.defaulted)]
        return (keys, *columns, reading.positions.tolist(), reading.as_of_ms.tolist())

    def check(self, keys: list[str]) -> None:
        anew = self.store.reader()
        wanted = self.said(ViewReader(self.view, anew, lambda: 0, Strict(), 0), keys)
        anew.close()
        for each in self.readers:
            assert self.said(each, keys) == wanted


@settings(max_examples=80)
@given(st.lists(st.tuples(ACTS, READ), max_size=20), st.sampled_from([0.1, 10.0]), st.sampled_from([2, 8]))
def test_what_is_held_is_what_the_store_has(acts, moving, asked_again_max):
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patched:
        patched.setattr(online_writer, "CHANGES_KEPT", 2)
        patched.setattr(online_writer, "CHANGED_BYTES_MAX", 60)
        patched.setattr(reader, "MOVING", moving)
        patched.setattr(reader, "ASKED_AGAIN_MAX", asked_again_max)
        world = World(Path(folder))
        for act, asked in acts:
            world.do(*act)
            world.check(asked)
        world.check(NAMES)
