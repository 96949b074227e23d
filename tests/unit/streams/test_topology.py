"""Stages and the topics between them: what they give together, and what they are called."""

import numpy as np
import polars as pl
import pytest
from stage_runner import START_MS, StageRunner

import penstock as ps
from penstock.core.errors import ConfigurationError
from penstock.streams.sinks import TopicSink
from penstock.streams.topology import topology

SCHEMA = {"number": pl.Int64, "key": pl.String, "group": pl.String, "at": pl.Int64, "value": pl.Int64}


def events(count: int, seed: int = 1, keys: int = 6) -> list[dict[str, object]]:
    rng = np.random.default_rng(seed)
    return [
        {
            "number": number,
            "key": f"k{rng.integers(keys)}",
            "group": f"g{rng.integers(3)}",
            "at": START_MS + number * 50 - int(rng.integers(800)),
            "value": int(rng.integers(100)),
        }
        for number in range(count)
    ]


def last(runner: StageRunner, topic: str) -> None:
    """An event in every partition that closes all windows."""
    for number in range(40):
        at = START_MS + 10**8
        runner.produce(
            topic, [{"number": -1, "key": f"end {number}", "group": "end", "at": at, "value": 0}], "key"
        )


def test_a_window_by_another_key_has_the_rows_of_all_partitions() -> None:
    app = ps.App("test")
    stream = app.stream("events", schema=SCHEMA, time="at", key="key", lateness="1s", partitions=4, idle=None)
    stream.window(key="group", over="5s").agg(n=ps.count(), total=ps.sum("value")).into("out")
    sent = events(1000)
    found = {}
    for rows, restarts in ((7, False), (1000, False), (100, True)):
        runner = StageRunner(app, rows, restarts=restarts)
        runner.produce("events", sent, "key")
        last(runner, "events")
        runner.run()
        rows_out = [row for row in runner.rows("out") if row["group"] != "end"]
        found[rows] = sorted((row["window_end"], row["group"], row["n"], row["total"]) for row in rows_out)  # type: ignore[type-var]
    table = pl.DataFrame(sent).with_columns(end=(pl.col("at") // 5000 + 1) * 5000)
    expected = table.group_by("end", "group").agg(n=pl.len(), total=pl.col("value").sum())
    assert len(found[7]) == expected.height
    assert {row[1:] for row in found[7]} == set(expected.select("group", "n", "total").iter_rows())
    assert found[7] == found[1000] == found[100]


def test_idle_partitions_do_not_hold_the_next_stage_back() -> None:
    app = ps.App("test")
    stream = app.stream("events", schema=SCHEMA, time="at", key="key", partitions=4, idle="2s")
    stream.window(key="group", over="5s").agg(n=ps.count()).into("out")
    runner = StageRunner(app)
    runner.produce("events", events(300, keys=1), "key")
    runner.run()
    assert not runner.rows("out"), "three partitions have not been heard of"
    runner.tick(60)
    assert sum(row["n"] for row in runner.rows("out")) == 300 - late(runner)  # type: ignore[misc]


def late(runner: StageRunner) -> int:
    stages = [stage for source, stage in runner.stages.items() if source.topic == "events"]
    return sum(stage.statistics().intake.late for stage in stages)


@pytest.mark.parametrize("rows", [3, 1000])
@pytest.mark.parametrize("restarts", [False, True])
def test_joined_streams_meet_each_pair_once(rows: int, restarts: bool) -> None:
    app = ps.App("test")
    left = app.stream("left", schema=SCHEMA, time="at", key="key", lateness="1s", partitions=2, idle=None)
    right = app.stream("right", schema=SCHEMA, time="at", key="group", lateness="1s", partitions=3, idle=None)
    left.join(right, key="key", before="2s", after="1s", how="left").into("pairs")
    runner = StageRunner(app, rows, restarts=restarts)
    lefts, rights = events(150, 1), events(150, 2)
    runner.produce("left", lefts, "key")
    runner.produce("right", rights, "group")
    last(runner, "left")
    last(runner, "right")
    runner.run()
    found = [row for row in runner.rows("pairs") if row["number"] != -1]
    pairs = {(row["number"], row["number_right"]) for row in found}
    one, two = pl.DataFrame(lefts), pl.DataFrame(rights)
    met = one.join(two, on="key", suffix="_right").filter(
        (pl.col("at_right") >= pl.col("at") - 2000) & (pl.col("at_right") <= pl.col("at") + 1000)
    )
    alone = set(one["number"]) - set(met["number"])
    assert len(found) == len(pairs)
    assert pairs == set(met.select("number", "number_right").iter_rows()) | {(number, None) for number in alone}


def test_a_table_gives_its_last_record_until_it_is_deleted() -> None:
    app = ps.App("test")
    stream = app.stream("events", schema=SCHEMA, time="at", idle=None)
    people = app.table(
        "people", schema={"key": pl.String, "name": pl.String, "since": pl.Int64}, key="key", time="since"
    )
    stream.join_table(people).into("out")
    runner = StageRunner(app, restarts=True)

    def send(number: int) -> None:
        runner.run()
        runner.produce(
            "events", [{"number": number, "key": "a", "group": "", "at": START_MS + number, "value": 0}]
        )
        runner.run()

    send(1)
    runner.produce("people", [{"key": "a", "name": "Ann", "since": START_MS}], "key")
    send(2)
    runner.produce("people", [{"key": "a", "name": "Anna", "since": START_MS + 1}], "key")
    send(3)
    runner.delete("people", "a")
    send(4)
    assert [(row["number"], row["name"]) for row in runner.rows("out")] == [
        (1, None),
        (2, "Ann"),
        (3, "Anna"),
        (4, None),
    ]


def test_what_was_sent_twice_counts_once() -> None:
    app = ps.App("test")
    stream = app.stream("events", schema=SCHEMA, time="at", lateness="1m", partitions=2, key="key", idle=None)
    stream.deduplicate("number", within="1m").into("out")
    runner = StageRunner(app, 13, restarts=True)
    sent = events(200)
    runner.produce("events", [*sent, *sent[100:], *sent[50:150]], "key")
    runner.run()
    assert sorted(row["number"] for row in runner.rows("out")) == list(range(200))  # type: ignore[type-var]


def test_names_are_the_same_when_it_is_started_again() -> None:
    def declared() -> list[str]:
        app = ps.App("my app")
        stream = app.stream("events", schema=SCHEMA, time="at", partitions=2)
        stream.window(key=["key", "group"], over="5s").agg(n=ps.count()).into("out")
        return [spec.name for spec in topology(app.streams.graph, {}).topics]

    assert declared() == declared()
    assert "my_app.events.by.key.group" in declared()


def test_topics_that_are_there_say_how_many_partitions() -> None:
    app = ps.App("test")
    app.stream("events", schema=SCHEMA, time="at").into("out")
    (stage,) = topology(app.streams.graph, {"events": 5}).stages
    assert stage.partitions == 5


def test_another_number_of_partitions_is_refused() -> None:
    app = ps.App("test")
    app.stream("events", schema=SCHEMA, time="at", partitions=2).into("out")
    with pytest.raises(ConfigurationError, match="'events' has 5 partitions, and 2 are wanted") as caught:
        topology(app.streams.graph, {"events": 5})
    assert caught.value.hint is not None
    assert "declare partitions=5" in caught.value.hint
    assert "`penstock log replay events --from begin --into OTHER --partitions 2`" in caught.value.hint


@pytest.mark.parametrize(("keeps", "sources"), [("key", 1), (["key", "number"], 1), ("number", 2), (None, 2)])
def test_a_key_that_a_function_keeps_is_still_one(keeps: str | list[str] | None, sources: int) -> None:
    app = ps.App("test")
    stream = app.stream("events", schema=SCHEMA, time="at", partitions=2, key="key")
    mapped = stream.map(lambda frame: frame, keeps=keeps)
    mapped.window(key="key", over="5s").agg(n=ps.count()).into("out")
    mapped.into("mapped")
    assert len(topology(app.streams.graph, {}).stages) == sources
    (sink,) = (sent.sink for sent in app.streams.graph.outputs.values() if sent.sink.title == "mapped")
    assert isinstance(sink, TopicSink)
    assert sink.key == (("key",) if sources == 1 else ())


def test_a_function_keeps_columns_that_there_are() -> None:
    stream = ps.App("test").stream("events", schema=SCHEMA, time="at", key="key")
    with pytest.raises(ConfigurationError, match="map: keeps: there is no column 'kye'"):
        stream.map(lambda frame: frame, keeps="kye")
    with pytest.raises(ConfigurationError, match="what the function gives: there is no column 'key'"):
        stream.map(lambda frame: frame.drop("key"), keeps="key")


def test_a_table_may_be_ahead_of_the_clock_as_a_stream_may() -> None:
    app = ps.App("test")
    table = {"schema": {"key": pl.String, "at": pl.Int64}, "key": "key", "time": "at"}
    app.table("default", **table)
    app.table("ahead", **table, ahead="3s")
    sources = app.streams.graph.sources
    assert (sources["default"].ahead_ms, sources["ahead"].ahead_ms) == (86_400_000, 3000)


def test_one_partition_needs_no_topic_between_stages() -> None:
    app = ps.App("test")
    stream = app.stream("events", schema=SCHEMA, time="at", key="key")
    stream.window(key="group", over="5s").agg(n=ps.count()).into("out")
    assert len(topology(app.streams.graph, {}).stages) == 1


def test_a_changed_key_column_is_no_key_any_more() -> None:
    app = ps.App("test")
    stream = app.stream("events", schema=SCHEMA, time="at", key="key", partitions=2)
    changed = stream.with_columns(key=pl.col("group"))
    changed.window(key="key", over="5s").agg(n=ps.count()).into("out")
    assert len(topology(app.streams.graph, {}).stages) == 2


def test_sessions_and_every_aggregate() -> None:
    app = ps.App("test")
    stream = app.stream("events", schema=SCHEMA, time="at", lateness="1s", idle=None)
    stream.window(key="key", gap="2s").agg(
        n=ps.count(),
        low=ps.min("value"),
        high=ps.max("value"),
        mean=ps.mean("value"),
        spread=ps.variance("value"),
        groups=ps.distinct("group"),
        half=ps.quantile("value", 0.5),
        final=ps.last("value"),
    ).into("out")
    times = [0, 500, 1900, 10_000]
    sent = [
        {"number": n, "key": "a", "group": f"g{n}", "at": START_MS + at, "value": n}
        for n, at in enumerate(times)
    ]
    for restarts in (False, True):
        runner = StageRunner(app, 1, restarts=restarts)
        runner.produce("events", sent)
        last(runner, "events")
        runner.run()
        first = next(row for row in runner.rows("out") if row["key"] == "a")
        assert {name: first[name] for name in ("n", "low", "high", "mean", "spread", "groups", "final")} == {
            "n": 3,
            "low": 0,
            "high": 2,
            "mean": 1.0,
            "spread": 1.0,
            "groups": 3,
            "final": 2,
        }
        assert first["half"] == pytest.approx(1, rel=0.01)


def test_the_retention_of_a_topic_is_left_to_who_made_it() -> None:
    app = ps.App("test")
    app.stream("kept", schema=SCHEMA, time="at").into("out")
    app.stream("short", schema=SCHEMA, time="at", retention="1h").into("out-2")
    planned = topology(app.streams.graph, {"kept": 1, "short": 1})
    wanted = {spec.name: spec.retention_s for spec in planned.wanted({"kept", "short"})}
    assert "kept" not in wanted
    assert wanted["short"] == 3600
    assert "out" in wanted


def test_two_stages_do_not_keep_their_state_in_one_topic() -> None:
    app = ps.App("test")
    left, right = (app.stream(name, schema=SCHEMA, time="at") for name in ("left", "right"))
    left.join(right, key="key", before="1s", name="left").into("out")
    with pytest.raises(ConfigurationError, match=r"state in one topic, 'test\.left\.changes'"):
        app.check()


@pytest.mark.parametrize(("topic", "why"), [("events", "which it reads"), ("test.events.changes", "own")])
def test_nothing_is_sent_where_only_a_stage_reads_or_writes(topic: str, why: str) -> None:
    app = ps.App("test")
    app.stream("events", schema=SCHEMA, time="at").into(topic)
    with pytest.raises(ConfigurationError, match=why):
        app.check()


def test_events_that_would_go_round_are_refused_and_a_chain_is_not() -> None:
    app = ps.App("test")
    events, others, third = (
        app.stream(name, schema=SCHEMA, time="at") for name in ("events", "others", "third")
    )
    events.filter(pl.col("value") > 0).into("others")
    others.join(events, key="key", before="1s").into("third")
    app.check()
    third.branch(all=pl.lit(value=True))["all"].into("others", name="back")
    with pytest.raises(ConfigurationError, match="for ever, others → third → others"):
        app.check()


def test_streams_of_which_nothing_goes_anywhere() -> None:
    app = ps.App("test")
    events, others, _, idle = (app.stream(name, schema=SCHEMA, time="at") for name in "abcd")
    idle.filter(pl.col("value") > 0)
    events.join(others, key="key", before="1s").into("out")
    assert app.streams.graph.unused == ["c", "d"]


@pytest.mark.parametrize("name", ["../other", "/abs", "a/b", "", ".."])
def test_names_that_are_no_part_of_a_folder(name: str) -> None:
    app = ps.App("test")
    with pytest.raises(ConfigurationError, match="cannot be called"):
        app.stream(name, schema=SCHEMA, time="at", topic="events")


def test_mistakes_in_what_is_given() -> None:
    app = ps.App("test")
    stream = app.stream("events", schema=SCHEMA, time="at")
    with pytest.raises(ConfigurationError, match="n='value' is no aggregate"):
        stream.window(key="key", over="1h").agg(n="value")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="cannot be sent into 5"):
        stream.into(5)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="no format 'xml'"):
        stream.into("out", format="xml")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="no format 'xml'"):
        app.stream("others", schema=SCHEMA, time="at", format="xml")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="no branch 'golden'") as caught:
        stream.branch(gold=pl.col("value") > 1, otherwise="rest")["golden"]
    assert caught.value.hint == "the branches are gold, rest"
    window = stream.window(key="key", over="1h")
    with pytest.raises(ConfigurationError, match="no aggregates yet") as caught:
        window.into("out")  # type: ignore[operator]
    assert caught.value.hint == "call agg first: stream.window(...).agg(n=ps.count()).into"
    with pytest.raises(ConfigurationError, match="not enriched by"):
        stream.enrich(window)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="a window over 1m cannot go by 7s"):
        stream.window(key="key", over="60s", every="7s").agg(n=ps.count())
    with pytest.raises(ConfigurationError, match="cannot be called 'step 1'"):
        stream.window(key="key", over="1h", name="step 1").agg(n=ps.count())
