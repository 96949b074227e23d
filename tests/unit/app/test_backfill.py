from pathlib import Path

import numpy as np
import polars as pl
import pytest

import penstock as ps
from penstock.app import backfill as module
from penstock.app.backfill import backfill, events_of_files, events_of_topic, history_sink
from penstock.app.features import DeclaredFeatures
from penstock.app.training import read_history, training_set
from penstock.core.clock import SystemClock
from penstock.core.errors import ConfigurationError, InvalidInput
from penstock.features.embedded import EmbeddedOnlineStore
from penstock.features.history import Asked, as_served, history_schema
from penstock.features.online import OFFSET_BITS, Progress, Update, read_record
from penstock.features.timeline import read_timelines
from penstock.features.view import encode_keys
from penstock.log.opening import open_log
from penstock.log.records import Records, TopicPartition
from penstock.streams.delta import DeltaSink
from penstock.streams.parquet import ParquetSink
from penstock.streams.topology import topology

SCHEMA = {"origin": pl.String, "delay": pl.Int64, "at": pl.Int64}
START_MS = 1_700_000_000_000
EVENTS = pl.DataFrame(
    {
        "origin": [["JFK", "EWR", "LGA"][number % 3] for number in range(300)],
        "delay": [number % 7 for number in range(300)],
        "at": [START_MS + number * 1000 for number in range(300)],
        "more": "left out",
    }
)


def declared(
    folder: Path | None = None,
    *,
    over: str = "1m",
    at_least: int | None = None,
    expect: dict[str, pl.Expr] | None = None,
    **options: object,
) -> DeclaredFeatures:
    app = ps.App("flights")
    departures = app.stream("departures", schema=SCHEMA, time="at", expect=expect)
    if at_least is not None:
        departures = departures.filter(pl.col("delay") >= at_least)
    view = departures.window(key="origin", over=over, every="10s").agg(n=ps.count(), worst=ps.max("delay"))
    return app.features("congestion", view, history=None if folder is None else ps.parquet(folder), **options)


@pytest.mark.parametrize("kind", [ParquetSink, DeltaSink])
def test_it_is_written_once(kind: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever stood in its way, and however often it is done."""
    monkeypatch.setattr(module, "FILE_ROWS", 100)
    features, sink = declared(), kind(folder=tmp_path / "history")

    class Stopped(Exception):
        pass

    files = module._files

    def stopping(frames: object) -> object:
        for number, file in enumerate(files(frames)):
            if number == 3:
                raise Stopped
            yield file

    monkeypatch.setattr(module, "_files", stopping)
    with pytest.raises(Stopped):
        backfill(features, EVENTS, into=sink, online=None, clock=SystemClock())
    monkeypatch.setattr(module, "_files", files)

    again = backfill(features, EVENTS, into=sink, online=None, clock=SystemClock())
    third = backfill(features, EVENTS, into=sink, online=None, clock=SystemClock())

    assert again.written == again.rows - 300
    assert (third.events, third.rows, third.written) == (300, again.rows, 0)
    history = read_history(features.view, tmp_path / "history")
    assert history.height == again.rows
    assert not history.select("offset", "valid_from").is_duplicated().any()
    assert history["offset"].n_unique() == 300


def test_other_events_are_another_backfill_and_other_defaults_are_none(tmp_path: Path) -> None:
    sink = ParquetSink(folder=tmp_path / "history")
    first = backfill(declared(), EVENTS, into=sink, online=None, clock=SystemClock())
    more = backfill(declared(), EVENTS[:100], into=sink, online=None, clock=SystemClock())
    same = declared(defaults={"n": 7}, stale="1m")
    again = backfill(same, EVENTS, into=sink, online=None, clock=SystemClock())
    assert first.written == first.rows
    assert more.written == more.rows
    assert again.written == 0


@pytest.mark.parametrize(
    "other",
    [{"over": "20s"}, {"at_least": 3}, {"expect": {"some": pl.col("delay") >= 3}}],
    ids=["a window", "a filter", "an expectation"],
)
def test_the_history_of_another_definition_is_refused(tmp_path: Path, other: dict[str, object]) -> None:
    """Neither written to nor read, by whoever has the view as it is now."""
    sink = ParquetSink(folder=tmp_path)
    backfill(declared(), EVENTS, into=sink, online=None, clock=SystemClock())
    now = declared(tmp_path, **other)

    with pytest.raises(ConfigurationError, match="as it was defined otherwise") as refused:
        backfill(now, EVENTS, into=sink, online=None, clock=SystemClock())
    assert "a new folder" in str(refused.value.hint)
    with pytest.raises(ConfigurationError, match="as it was defined otherwise"):
        read_history(now.view, tmp_path)
    with pytest.raises(ConfigurationError, match="as it was defined otherwise"):
        topology(now.declared.graph, {})
    topology(declared(tmp_path, defaults={"n": 7}, stale="1m").declared.graph, {})


def test_a_later_backfill_holds_for_its_time(tmp_path: Path) -> None:
    """Corrected events, of two keys of three, of the middle of the time."""
    sink = ParquetSink(folder=tmp_path)
    corrected = EVENTS[100:200].filter(pl.col("origin") != "LGA").with_columns(delay=pl.lit(-50, pl.Int64))
    for events in (EVENTS, corrected):
        backfill(declared(), events, into=sink, online=None, clock=SystemClock())

    labels = EVENTS.select("origin", "at")
    found = training_set(labels, declared(tmp_path), time="at")

    first = corrected["at"].min()
    last = corrected["at"].max()
    assert isinstance(first, int)
    before, middle, after = (
        found.filter(which)
        for which in (
            pl.col("at") < first,
            pl.col("at").is_between(first, last) & (pl.col("origin") != "LGA"),
            pl.col("at") > last,
        )
    )
    assert middle.height == corrected.height
    assert set(middle["worst"]) == {-50}
    assert before["worst"].min() >= 0
    assert after.filter(pl.col("at") > last + 3000)["worst"].min() >= 0


def test_what_is_read_of_a_backfill_has_its_place_in_the_history(tmp_path: Path) -> None:
    store, features = EmbeddedOnlineStore(tmp_path / "home"), declared(tmp_path / "history")
    backfill(features, EVENTS[:30], into=features.history, online=None, clock=SystemClock())
    backfill(features, EVENTS, into=features.history, online=store, clock=SystemClock())
    keys = ["JFK", "EWR", "LGA"]
    records = [read_record(each) for each in store.reader().read(features.view, encode_keys([keys])).records]

    places = np.array([position for position, _, _ in records])
    time_ms = np.full(3, START_MS + 301_000)
    again, there = as_served(
        features.view,
        read_history(features.view, tmp_path / "history"),
        Asked(pl.DataFrame({"origin": keys}), time_ms, time_ms),
        places >> OFFSET_BITS,
        places & ((1 << OFFSET_BITS) - 1),
    )
    assert there.all()
    assert (places >> OFFSET_BITS).tolist() == [-1, -1, -1]
    values = read_timelines([timeline for _, _, timeline in records], features.view.features, time_ms)
    assert again["n"].to_list() == values.columns[0].tolist()
    assert min(again["n"].to_list()) > 0
    assert again["worst"].to_list() == values.columns[1].tolist()


def test_what_is_known_in_the_end_is_put_where_nothing_newer_is(tmp_path: Path) -> None:
    store, features = EmbeddedOnlineStore(tmp_path), declared()
    (jfk,) = encode_keys([["JFK"]])
    writer = store.writer(features.view)
    timeline = b"\0" * 32
    progress = Progress(partition=0, as_of_ms=5, next_offset=1, heard_ms=5)
    writer.put(0, [Update(jfk, 0, 5, timeline)], progress)
    writer.close()
    came = backfill(features, EVENTS, into=None, online=store, clock=SystemClock())
    assert (came.written, came.online) == (0, 2)
    records = store.reader().read(features.view, encode_keys([["JFK", "EWR", "LGA", "XXX"]])).records
    assert records[0] is not None
    assert records[0].endswith(timeline)
    assert [record is None for record in records] == [False, False, False, True]


def test_events_are_read_of_files_folders_patterns_and_tables(tmp_path: Path) -> None:
    features = declared()
    (tmp_path / "events").mkdir()
    EVENTS[:200].write_parquet(tmp_path / "events" / "a.parquet")
    EVENTS[200:].write_parquet(tmp_path / "events" / "b.parquet")
    EVENTS.write_delta(str(tmp_path / "table"))
    wanted = EVENTS.select(list(SCHEMA))
    for place in ("events", "events/*.parquet", "table"):
        assert events_of_files(features, tmp_path / place).sort("at").equals(wanted)
    assert events_of_files(features, tmp_path / "events" / "a.parquet").equals(wanted[:200])


def test_what_has_no_events_is_refused(tmp_path: Path) -> None:
    features = declared()
    with pytest.raises(InvalidInput, match="there is no file, folder or table"):
        events_of_files(features, tmp_path / "nowhere")
    EVENTS.select("more").write_parquet(tmp_path / "other.parquet")
    with pytest.raises(InvalidInput, match="none of the stream's columns") as refused:
        events_of_files(features, tmp_path / "other.parquet")
    assert "more" in refused.value.hint
    (tmp_path / "damaged.parquet").write_bytes(b"PAR1")
    with pytest.raises(InvalidInput, match="cannot be read"):
        events_of_files(features, tmp_path / "damaged.parquet")


def test_events_are_read_of_a_topic_as_their_stream_reads_them(tmp_path: Path) -> None:
    features = declared()
    with open_log("", tmp_path, SystemClock()) as log:
        with pytest.raises(InvalidInput, match="no topic 'departures'"):
            events_of_topic(features, log, None, START_MS)
        app = features.declared.graph
        source = app.sources["departures"]
        log.admin.ensure_topics([module_spec(source.topic)])
        values = [row.encode() for row in EVENTS.write_ndjson().splitlines()]
        producer = log.producer()
        records = Records(values=[*values, b"bad"], times_ms=EVENTS["at"].extend_constant(0, 1).to_numpy())
        producer.append(TopicPartition("departures", 1), records).result()
        producer.close()
        now_ms = START_MS + 10**9
        assert events_of_topic(features, log, None, now_ms).equals(EVENTS.select(list(SCHEMA)))
        assert events_of_topic(features, log, "departures", now_ms).height == 300


def module_spec(topic: str) -> object:
    from penstock.log.port import TopicSpec

    return TopicSpec(name=topic, partitions=2)


def test_a_history_goes_on_as_what_it_is(tmp_path: Path) -> None:
    EVENTS.write_delta(str(tmp_path / "table"))
    assert isinstance(history_sink(tmp_path / "table"), DeltaSink)
    assert isinstance(history_sink(tmp_path / "new"), ParquetSink)


LIVE_MS = START_MS + 150_000
AFTER_MS = START_MS + 400_000


def tell(kind: type, features: DeclaredFeatures, folder: Path) -> None:
    """Two updates of the stream itself: one within the time of the events, one after it."""
    moments = pl.Series([LIVE_MS, AFTER_MS]).cast(pl.Datetime("ms", "UTC"))
    rows = pl.DataFrame(
        {
            "origin": ["JFK", "JFK"], "event_time": moments, "available_at": moments,
            "partition": [0, 0], "offset": [5, 6], "valid_from": moments, "n": [99, 77], "worst": [99, 77],
        },
        schema=history_schema(features.view),
    )  # fmt: skip
    if kind is DeltaSink:
        rows.write_delta(str(folder), mode="append")
    else:
        rows.write_parquet(folder / "live.parquet")


def windows(events: pl.DataFrame, labels: pl.DataFrame) -> list[tuple[int, int | None]]:
    """By Polars: what there is of each label's key in the six steps that end with its own."""
    found = []
    for key, time_ms in labels.iter_rows():
        step = pl.col("at") // 10_000
        within = events.filter(
            pl.col("origin") == key,
            pl.col("at") <= time_ms,
            step <= time_ms // 10_000,
            step > time_ms // 10_000 - 6,
        )
        found.append((within.height, within["delay"].max()))
    return found  # type: ignore[return-value]


@pytest.mark.parametrize("kind", [ParquetSink, DeltaSink])
def test_a_corrected_history_replaces_what_there_was_at_once(
    kind: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FILE_ROWS", 100)
    folder = tmp_path / "history"
    features, sink = declared(defaults={"worst": -1}), kind(folder=folder)
    asked = [START_MS + 1000 * second for second in (3, 61, 151, 180, 298)]
    labels = pl.DataFrame({"origin": ["JFK", "EWR", "JFK", "JFK", "LGA"], "asked": asked})

    def joined(rows: pl.DataFrame) -> list[tuple[int, int]]:
        made = training_set(rows, features, time="asked", histories={"congestion": folder})
        return made.select("n", "worst").rows()  # type: ignore[return-value]

    def replacing(events: pl.DataFrame) -> module.Backfilled:
        return backfill(features, events, into=sink, online=None, clock=SystemClock(), replace=True)

    backfill(features, EVENTS, into=sink, online=None, clock=SystemClock())
    tell(kind, features, folder)
    before = joined(labels)
    assert before[2] == (99, 99), "the stream's own update is the last"
    corrected = EVENTS.with_columns(pl.col("delay") + 100).filter(pl.col("delay") % 5 != 0)
    files = module._files

    def stopping(frames: object) -> object:
        for number, file in enumerate(files(frames)):
            assert joined(labels) == before, "what is not whole does not count"
            if number == 1:
                raise KeyboardInterrupt
            yield file

    monkeypatch.setattr(module, "_files", stopping)
    with pytest.raises(KeyboardInterrupt):
        replacing(corrected)
    monkeypatch.setattr(module, "_files", files)
    assert joined(labels) == before

    done = replacing(corrected)

    assert 0 < done.written < done.rows, "it went on where it was"
    assert joined(labels) == windows(corrected, labels)
    late = pl.DataFrame({"origin": ["JFK", "LGA"], "asked": [AFTER_MS + 1, START_MS + 299_000]})
    assert joined(late) == [(77, 77), (20, 6)], "after the last event holds what there was"
    assert replacing(corrected).written == 0
    kept = read_history(features.view, folder)
    place = Asked(pl.DataFrame({"origin": ["JFK"]}), np.array([LIVE_MS]), np.array([LIVE_MS]))
    served, there = as_served(features.view, kept, place, np.array([0]), np.array([5]))
    assert there.all(), "what was served is found again"
    assert served["n"].to_list() == [99]
    replacing(EVENTS)
    assert joined(labels) == windows(EVENTS, labels)


def test_nothing_replaces_nothing(tmp_path: Path) -> None:
    features, sink = declared(), ParquetSink(folder=tmp_path / "history")
    backfill(features, EVENTS, into=sink, online=None, clock=SystemClock())
    before = read_history(features.view, sink.folder)
    with pytest.raises(InvalidInput, match="nothing is replaced"):
        backfill(features, EVENTS[:0], into=sink, online=None, clock=SystemClock(), replace=True)
    assert read_history(features.view, sink.folder).equals(before)
