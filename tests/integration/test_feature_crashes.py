"""Workers of feature views that are killed: what is kept for reading and what is in the history is what Polars
finds in all events, each update once.
"""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from command_line import PATIENCE_S
from stream_crashes import LATENESS_MS, START_MS, Crashing, Event, kill, make_events

from penstock.app.features import DeclaredFeatures
from penstock.app.loading import load_app
from penstock.features.embedded import EmbeddedOnlineStore
from penstock.features.history import Asked, as_of_join, history_schema
from penstock.features.online import read_record
from penstock.features.timeline import read_timelines
from penstock.features.view import encode_keys
from penstock.log.records import TopicPartition

APP = """
import penstock as ps
import polars as pl

app = ps.App("crashing")
events = app.stream(
    "events",
    schema={"number": pl.Int64, "key": pl.String, "group": pl.String, "at": pl.Int64, "value": pl.Int64},
    time="at", key="key", lateness="1s", idle=None, partitions=2, expect={"positive": pl.col("value") >= 0},
)
by_key = events.window(key="key", over="10s", every="2s").agg(
    count=ps.count(), total=ps.sum("value"), mean=ps.mean("value")
)
app.features("by_key", by_key, (pl.col("total") * 2).alias("double"), history=ps.delta("by_key", every="200ms"))
by_group = events.window(key="group", over="6s", every="2s").agg(count=ps.count(), top=ps.max("value"))
app.features("by_group", by_group, defaults={"top": -7}, history=ps.parquet("by_group", every="200ms"))
"""
EVENTS = 1500
CRASHES = int(os.environ.get("CRASHES", "4"))


class Features(Crashing):
    """The app's views, as they are kept."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.write_app(APP)

    def view(self, name: str) -> DeclaredFeatures:
        app, _ = load_app(str(self.folder / "app.py"))
        return app.streams.features[name]

    def wait_until_kept(self) -> None:
        """All that was produced has gone through all stages; heartbeats go on for ever."""
        self._wait_past(("events", "crashing.events.by.group"))
        self._wait_past(("crashing.by_key.features", "crashing.by_group.features"))
        # Files are due by then.
        time.sleep(0.5)
        self._wait_past(("crashing.by_key.features", "crashing.by_group.features"))

    def _wait_past(self, topics: tuple[str, ...]) -> None:
        ends = self.ends()
        wanted = {
            TopicPartition(topic, place): end for topic in topics for place, end in enumerate(ends[topic])
        }

        def passed() -> bool:
            lags = {lag.source: lag.committed or 0 for lag in self.log.admin.lags("crashing")}
            return all(lags.get(source, 0) >= end for source, end in wanted.items())

        self.wait_for(passed)

    def check_views(self, events: list[Event]) -> None:
        table = pl.DataFrame(events, orient="row")
        good = table.filter(pl.col("value") >= 0).with_columns(
            watermark=pl.col("at").cum_max().shift(1).over("partition") - LATENESS_MS
        )
        on_time = good.filter((pl.col("at") >= pl.col("watermark")).fill_null(value=True))
        end_ms = START_MS + 10 * EVENTS
        counts = pl.len().cast(pl.Int64)
        value = pl.col("value")
        for at_ms in (end_ms, end_ms + 5_000, end_ms + 60_000):
            by_key = window(on_time, "key", at_ms, 10_000).agg(
                count=counts, total=value.sum(), mean=value.mean()
            )
            by_key = by_key.with_columns(double=pl.col("total") * 2)
            self._check("by_key", on_time["key"].unique(), at_ms, by_key)
            by_group = window(on_time, "group", at_ms, 6_000).agg(count=counts, top=value.max())
            self._check("by_group", on_time["group"].unique(), at_ms, by_group)

    def _check(self, name: str, keys: pl.Series, at_ms: int, wanted: pl.DataFrame) -> None:
        declared = self.view(name)
        view = declared.view
        keys = keys.filter(~keys.str.starts_with("end")).sort()
        defaults = [pl.col(each.name).fill_null(pl.lit(each.default)) for each in view.features]
        expected = keys.to_frame().join(wanted, on=keys.name, how="left", maintain_order="left")
        expected = expected.with_columns(defaults).select(view.feature_names)
        answer = (
            EmbeddedOnlineStore(self.folder / ".penstock").reader().read(view, encode_keys([keys.to_list()]))
        )
        timelines = [read_record(record)[-1] for record in answer.records if record is not None]
        assert len(timelines) == len(keys), f"{keys.to_list()} are not all kept\n{self.told()}"
        read = read_timelines(timelines, view.features, at_ms)
        served = pl.DataFrame(
            [
                pl.Series(each.name, np.where(known, column, each.default), dtype=expected.schema[each.name])
                for each, column, known in zip(view.features, read.columns, read.known, strict=True)
            ]
        )
        assert served.equals(expected), (at_ms, served, expected)
        history = self.history(declared)
        assert history.columns == list(history_schema(view))
        places = history.select(*view.key_names, "partition", "offset", "valid_from")
        assert not places.is_duplicated().any(), "each update once"
        asked = Asked(keys.to_frame(), np.full(len(keys), at_ms), np.full(len(keys), 2**60))
        assert as_of_join(view, history, asked).equals(expected)

    def history(self, declared: DeclaredFeatures) -> pl.DataFrame:
        folder = self.folder / declared.history.folder
        if (folder / "_delta_log").exists():
            return pl.read_delta(str(folder))
        return pl.read_parquet(folder / "*.parquet")


def window(events: pl.DataFrame, by: str, at_ms: int, over_ms: int) -> object:
    step = pl.col("at") // 2000
    within = events.filter(step <= at_ms // 2000, step > at_ms // 2000 - over_ms // 2000)
    return within.group_by(by)


@pytest.fixture
def crashing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Features]:
    monkeypatch.setenv("LEASE_S", "2")
    found = Features(tmp_path)
    yield found
    found.close()


def test_kills_at_random(crashing: Features) -> None:
    rng = np.random.default_rng(CRASHES)
    events = make_events(EVENTS, seed=11)
    crashing.make_topics()
    worker = crashing.start()
    for part in np.array_split(np.arange(len(events)), CRASHES):
        crashing.produce([events[place] for place in part.tolist()])
        time.sleep(float(rng.uniform(0.3, 1.5)))
        kill(worker)
        worker = crashing.start()
    crashing.wait_until_kept()
    crashing.check_views(events)


@pytest.mark.parametrize("place", ["state", "output", "committed"])
def test_a_kill_at_every_failpoint(crashing: Features, place: str) -> None:
    events = make_events(EVENTS, seed=12)
    crashing.make_topics()
    crashing.produce(events)
    worker = crashing.start(failpoint=f"{place}:6:kill")
    assert worker.wait(PATIENCE_S) == -signal.SIGKILL
    crashing.start()
    crashing.wait_until_kept()
    crashing.check_views(events)


def test_two_workers_share_the_partitions_of_a_view(crashing: Features) -> None:
    events = make_events(EVENTS, seed=13)
    crashing.make_topics()
    crashing.start(1)
    second = crashing.start(2)
    crashing.wait_for(lambda: len(crashing.members()) == 2 and all(crashing.members().values()))
    half = len(events) // 2
    crashing.produce(events[:half])
    crashing.wait_until_kept()
    kill(second)
    crashing.produce(events[half:])
    crashing.wait_until_kept()
    crashing.check_views(events)
