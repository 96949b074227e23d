"""A stage: what it gives does not depend on how records are cut into batches, nor on restarts between them."""

import itertools
import json
from collections.abc import Iterable

import numpy as np
import polars as pl
import pytest
from stage_runner import StageRunner

import penstock as ps
from penstock.core.errors import ConfigurationError, CorruptState
from penstock.log.records import Fetched, Records, TopicPartition
from penstock.streams.intake import Instant
from penstock.streams.plan import StagePlan
from penstock.streams.reasons import Reason
from penstock.streams.stage import Stage, StageResult
from penstock.streams.stage_state import begins_anew, next_offset_of
from penstock.streams.topology import topology

SOURCE = TopicPartition("events", 0)
START_MS = 1_700_000_000_000
NOW = Instant(now_ms=START_MS + 10**9, monotonic_ms=0.0)
SCHEMA = {"number": pl.Int64, "key": pl.String, "at": pl.Int64, "value": pl.Float64}


def declare() -> tuple[ps.App, "ps.app.streams.Stream"]:  # type: ignore[name-defined]
    app = ps.App("test")
    stream = app.stream("events", schema=SCHEMA, time="at", lateness="1s", idle="10s")
    return app, stream


def plan_of(app: ps.App) -> StagePlan:
    app.check()
    (plan,) = topology(app.streams.graph, {}).stages
    return plan


def windowed() -> StagePlan:
    """Everything that has state, and every kind of output."""
    app, stream = declare()
    good = stream.filter(pl.col("value") != 13)
    view = good.window(key="key", over="10s", every="2s").agg(count=ps.count(), total=ps.sum("value"))
    good.enrich(view).into("read", key="key")
    view.into("closed")
    stream.late.into("late")
    return plan_of(app)


def records(count: int, seed: int = 1) -> list[bytes]:
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        if rng.random() < 0.02:
            found.append(b"{not json")
            continue
        at = START_MS + number * 20 - int(rng.integers(0, 3000 if rng.random() < 0.1 else 900))
        event = {"number": number, "key": f"k{rng.integers(5)}", "at": at, "value": float(rng.integers(20))}
        found.append(json.dumps(event).encode())
    return found


def one(number: int, value: float) -> bytes:
    return json.dumps({"number": number, "key": "k", "at": START_MS + number, "value": value}).encode()


def fetched(values: list[bytes], first: int = 0) -> Fetched:
    return Fetched(
        source=SOURCE,
        offsets=np.arange(first, first + len(values), dtype=np.int64),
        records=Records(values=values, times_ms=np.full(len(values), START_MS, dtype=np.int64)),
        next_offset=first + len(values),
    )


def out(results: Iterable[StageResult]) -> dict[str, list[bytes]]:
    """All that went out, by topic; dead letters among it."""
    found: dict[str, list[bytes]] = {}
    for result in results:
        for append in result.appends:
            found.setdefault(append.target.topic, []).extend(append.records.values)
        found.setdefault("dead", []).extend(letter.value for letter in result.dead)
    return found


def cuts(count: int, seed: int) -> list[int]:
    rng = np.random.default_rng(seed)
    return [0, *sorted(rng.choice(np.arange(1, count), 12, replace=False).tolist()), count]


@pytest.mark.parametrize("seed", range(3))
def test_the_output_is_the_same_for_any_batches(seed: int) -> None:
    values = records(800, seed)
    plan = windowed()
    whole = out([Stage(plan, SOURCE).process(fetched(values), NOW)])
    assert {"read", "closed", "late", "dead"} <= set(whole)
    stage = Stage(plan, SOURCE)
    bounds = cuts(len(values), seed)
    parts = [stage.process(fetched(values[begin:end], begin), NOW) for begin, end in itertools.pairwise(bounds)]
    assert out(parts) == whole


@pytest.mark.parametrize("seed", range(3))
def test_a_restart_after_any_batch_changes_nothing(seed: int) -> None:
    values = records(800, seed)
    plan = windowed()
    whole = out([Stage(plan, SOURCE).process(fetched(values), NOW)])
    stage, snapshot, later = Stage(plan, SOURCE), None, []
    results = []
    bounds = cuts(len(values), seed)
    for place, (begin, end) in enumerate(itertools.pairwise(bounds)):
        results.append(stage.process(fetched(values[begin:end], begin), NOW))
        later.append(stage.take_changes())
        if place % 4 == 2:
            snapshot, later = stage.snapshot(), []
        restored = Stage(plan, SOURCE, snapshot)
        for changes in later:
            restored.apply_changes(changes)
        assert restored.next_offset == end == next_offset_of(stage.take_changes())
        stage = restored
    assert out(results) == whole


def test_windows_close_when_nothing_comes_any_more() -> None:
    stage = Stage(windowed(), SOURCE)
    stage.process(fetched(records(50)), NOW)
    closed = []
    for second in range(60):
        result = stage.tick(Instant(now_ms=NOW.now_ms, monotonic_ms=second * 1000.0))
        closed += out([result]).get("closed", [])
    assert closed
    ends = [json.loads(value)["window_end"] for value in closed]
    assert ends == sorted(ends)


def test_a_clock_that_jumps_closes_nothing() -> None:
    stage = Stage(windowed(), SOURCE)
    stage.process(fetched(records(50)), NOW)
    for monotonic_ms in (0.0, 10.0, 20.0):
        result = stage.tick(Instant(now_ms=NOW.now_ms + 3_600_000, monotonic_ms=monotonic_ms))
        assert result.empty


def test_rows_that_a_function_raises_on_become_dead_letters() -> None:
    app, stream = declare()

    def fussy(frame: pl.DataFrame) -> pl.DataFrame:
        if (frame["value"] == 3).any():
            raise ValueError("no threes")
        return frame.with_columns(twice=pl.col("value") * 2)

    stream.map(fussy).into("out")
    stage = Stage(plan_of(app), SOURCE)
    values = [
        json.dumps({"number": n, "key": "k", "at": START_MS + n, "value": n % 5}).encode() for n in range(50)
    ]
    result = stage.process(fetched(values), NOW)
    assert [letter.offset for letter in result.dead] == list(range(3, 50, 5))
    assert {letter.value for letter in result.dead} == set(values[3::5])
    assert all("no threes" in letter.detail and letter.reason == "raised" for letter in result.dead)
    assert [json.loads(value)["number"] for value in out([result])["out"]] == [
        n for n in range(50) if n % 5 != 3
    ]


def test_branches_go_their_ways() -> None:
    app, stream = declare()
    branches = stream.branch(high=pl.col("value") > 10, otherwise="low")
    branches["high"].into("high")
    branches["low"].into("low")
    stage = Stage(plan_of(app), SOURCE)
    values = [one(n, n) for n in range(20)]
    found = out([stage.process(fetched(values), NOW)])
    assert [json.loads(value)["number"] for value in found["high"]] == list(range(11, 20))
    assert [json.loads(value)["number"] for value in found["low"]] == list(range(11))


def test_windows_over_closed_windows() -> None:
    app, stream = declare()
    view = stream.window(key="key", over="2s").agg(count=ps.count())
    view.closed.window(key="key", over="10s", name="tens").agg(total=ps.sum("count")).into("totals")
    stage = Stage(plan_of(app), SOURCE)
    times = [*range(0, 30_000, 100), 60_000, 90_000]
    values = [json.dumps({"number": 0, "key": "k", "at": START_MS + t, "value": 1}).encode() for t in times]
    totals = [json.loads(value) for value in out([stage.process(fetched(values), NOW)])["totals"]]
    assert [row["total"] for row in totals[:3]] == [100, 100, 100]


def test_what_is_refused_goes_out_unread() -> None:
    stage = Stage(windowed(), SOURCE)
    result = stage.refuse(fetched([b"anything"], 7), Reason.HUNG, "not done within 30 s", NOW)
    (letter,) = result.dead
    assert (letter.value, letter.offset, letter.reason) == (b"anything", 7, "hung")
    assert stage.next_offset == 8


def test_a_step_that_was_changed_is_refused_with_its_name() -> None:
    stage = Stage(windowed(), SOURCE)
    stage.process(fetched(records(50)), NOW)
    stage.take_changes()
    app, stream = declare()
    stream.window(key="key", over="10s", every="5s", name="window key").agg(count=ps.count()).into("closed")
    with pytest.raises(ConfigurationError, match="'window key' was changed"):
        Stage(plan_of(app), SOURCE, stage.snapshot())


def test_a_step_that_is_new_begins_empty() -> None:
    stage = Stage(windowed(), SOURCE)
    stage.process(fetched(records(50)), NOW)
    stage.take_changes()
    app, stream = declare()
    stream.window(key="key", over="1h", name="hourly").agg(count=ps.count()).into("hourly")
    assert Stage(plan_of(app), SOURCE, stage.snapshot()).next_offset == 50


@pytest.mark.parametrize("content", [b"", b"junk", b"\x95\x01"])
def test_state_that_is_none(content: bytes) -> None:
    with pytest.raises(CorruptState):
        Stage(windowed(), SOURCE, content)


def test_a_stage_that_begins_anew_says_so_once() -> None:
    stage = Stage(windowed(), SOURCE, anew=True)
    stage.process(fetched(records(5)), NOW)
    assert begins_anew(stage.take_changes())
    stage.process(fetched(records(5), 5), NOW)
    assert not begins_anew(stage.take_changes())


@pytest.mark.parametrize("partitions", [1, 2])
def test_a_function_that_raises_on_a_closed_window_costs_that_window_alone(partitions: int) -> None:
    app = ps.App("test")
    stream = app.stream("events", schema=SCHEMA, time="at", partitions=partitions)

    def fussy(frame: pl.DataFrame) -> pl.DataFrame:
        if (frame["total"] == 3).any():
            raise ValueError("no threes")
        return frame

    view = stream.window(key="key", over="2s").agg(total=ps.sum("value"))
    view.closed.map(fussy).into("out")
    runner = StageRunner(app)
    values = {"a": 3.0, "b": 1.0, "c": 2.0}
    runner.produce("events", [{"number": 0, "key": k, "at": START_MS, "value": v} for k, v in values.items()])
    runner.run()
    runner.produce("events", [{"number": 1, "key": "z", "at": START_MS + 20_000, "value": 9.0}])
    runner.run()
    runner.tick(90)
    assert sorted(row["key"] for row in runner.rows("out")) == ["b", "c", "z"]
    (letter,) = [json.loads(value) for value in runner.dead]
    assert (letter["key"], letter["total"]) == ("a", 3.0)


def test_a_pair_that_a_function_raises_on_is_the_only_one_set_aside() -> None:
    app = ps.App("test")
    left, right = (app.stream(name, schema=SCHEMA, time="at") for name in ("left", "right"))

    def fussy(frame: pl.DataFrame) -> pl.DataFrame:
        if (frame["value_right"] == 3).any():
            raise ValueError("no threes")
        return frame

    left.join(right, key="key", before="1m", after="1m").map(fussy).into("out")
    runner = StageRunner(app)
    runner.produce("right", [{"number": n, "key": "a", "at": START_MS, "value": float(n)} for n in range(5)])
    runner.run()
    runner.produce("left", [{"number": 0, "key": "a", "at": START_MS, "value": 1.0}])
    runner.run()
    assert sorted(row["value_right"] for row in runner.rows("out")) == [0.0, 1.0, 2.0, 4.0]
    (letter,) = [json.loads(value) for value in runner.dead]
    assert letter["value_right"] == 3.0


def misplaced(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(_offset=pl.col("_offset") + 1_000)


def refused(frame: pl.DataFrame) -> pl.DataFrame:
    raise ValueError("not today")


def test_rows_whose_function_misplaced_them_are_set_aside_as_made() -> None:
    app = ps.App("app")
    schema = {"key": pl.String, "at": pl.Int64}
    stream = app.stream("events", schema=schema, time="at")
    stream.map(misplaced).map(refused, schema=schema).into("out")
    runner = StageRunner(app)
    runner.produce("events", [{"key": "a", "at": START_MS}, {"key": "b", "at": START_MS}])
    runner.run()
    assert [json.loads(value)["key"] for value in runner.dead] == ["a", "b"]


def test_how_far_ahead_of_the_clock_an_event_may_be_is_said_by_its_stream() -> None:
    for ahead, expected in (("1d", 1), ("365d", 0)):
        app = ps.App("app")
        app.stream("events", schema={"at": pl.Int64}, time="at", ahead=ahead).into("out")
        runner = StageRunner(app)
        runner.produce("events", [{"at": START_MS + 10**10 + 2 * 86_400_000}])
        runner.run()
        assert len(runner.dead) == expected
