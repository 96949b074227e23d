import re

import polars as pl
import polars.selectors as cs
import pytest

import penstock as ps
from penstock.core.errors import ConfigurationError
from penstock.core.tensors import DataType
from penstock.streams.feature_views.updates_output import UpdatesSink
from penstock.streams.topology import topology

SCHEMA = {
    "origin": pl.String,
    "carrier": pl.Categorical,
    "gate": pl.UInt64,
    "day": pl.Date,
    "delay": pl.Float32,
    "seats": pl.Int16,
    "full": pl.Boolean,
    "at": pl.Datetime("ms"),
}


def app_with_stream(**options: object) -> tuple[ps.App, object]:
    app = ps.App("flights")
    return app, app.stream("departures", schema=SCHEMA, time="at", lateness="2h", **options)


def windowed(stream: object, key: object = ("origin", "carrier"), **aggregates: object) -> object:
    return stream.window(key=key, over="1h", every="5m").agg(**(aggregates or {"n": ps.count()}))


def test_a_view_has_the_types_and_defaults_of_its_columns() -> None:
    app, departures = app_with_stream(key="origin", partitions=4)
    view = windowed(
        departures, n=ps.count(), mean=ps.mean("delay"), seats=ps.last("seats"), full=ps.last("full"),
        newest=ps.max("at"),
    )  # fmt: skip

    declared = app.features(
        "congestion", view, pl.col("newest").dt.epoch("ms"), (pl.col("mean") > 15).alias("late"),
        defaults={"mean": 3, "seats": 120}, stale="1m", history=ps.parquet("history"),
    )  # fmt: skip

    assert declared.view.topic == "flights.congestion.features"
    assert declared.view.stale_s == 60
    assert [(key.name, key.datatype) for key in declared.view.keys] == [
        ("origin", DataType.STRING),
        ("carrier", DataType.STRING),
    ]
    assert [(each.name, each.datatype.value, each.default) for each in declared.view.features] == [
        ("n", "INT64", 0),
        ("mean", "FP64", 3.0),
        ("seats", "INT64", 120),
        ("full", "BOOL", False),
        ("newest", "INT64", 0),
        ("late", "BOOL", False),
    ]
    assert app.streams.features == {"congestion": declared}


def test_a_number_without_a_default_is_nan_where_nothing_is_known() -> None:
    app, departures = app_with_stream()
    (feature,) = app.features("delays", windowed(departures, mean=ps.mean("delay"))).view.features
    assert feature.default != feature.default


def test_the_topic_of_a_view_has_the_partitions_of_its_stage() -> None:
    app, departures = app_with_stream(key="origin", partitions=4)
    app.features("congestion", windowed(departures), history=ps.parquet("history"))
    app.features("by_carrier", windowed(departures, "carrier"))
    app.check()

    planned = topology(app.streams.graph, {})

    partitions = {spec.name: spec.partitions for spec in planned.topics}
    assert partitions["flights.congestion.features"] == partitions["flights.by_carrier.features"] == 4
    stages = planned.by_source
    assert stages["flights.congestion.features"].passing
    assert not stages["flights.congestion.features"].internal
    assert not stages["departures"].passing
    outputs = [output.name for output in stages["flights.congestion.features"].outputs]
    assert outputs == ["online congestion", "history of congestion"]


def test_nobody_else_sends_into_the_topic_of_a_view() -> None:
    app, departures = app_with_stream()
    app.features("congestion", windowed(departures))
    departures.into("flights.congestion.features")
    with pytest.raises(ConfigurationError, match="which is Penstock's own"):
        app.check()


def test_the_last_values_are_those_of_numbers_within_their_time() -> None:
    app, departures = app_with_stream()
    latest = app.features("latest", departures.latest(key="origin", ttl="3h"))
    assert latest.view.feature_names == ("delay", "seats", "full")
    assert latest.windowed.config.over_ms == 3 * 3_600_000
    assert latest.windowed.config.step_ms == 450_000
    odd = departures.latest(key="carrier", ttl=0.097, columns="delay")
    assert (odd.config.over_ms, odd.config.step_ms) == (120, 5)


def test_enriched_events_have_the_features_as_they_are_served() -> None:
    app, departures = app_with_stream()
    view = app.features(
        "congestion", windowed(departures, mean=ps.mean("delay")), (pl.col("mean") * 60).alias("seconds"),
        defaults={"mean": -1.0},
    )  # fmt: skip
    enriched = departures.enrich(view)
    assert enriched.schema["mean"] == enriched.schema["seconds"] == pl.Float64()
    enriched.into("enriched")
    app.check()


REFUSED = {
    "no window": (lambda app, s: app.features("v", s), "is no window"),
    "sessions": (
        lambda app, s: app.features("v", s.window(key="origin", gap="5m").agg(n=ps.count())),
        "sessions are known once they are over",
    ),
    "steps": (
        lambda app, s: app.features("v", s.window(key="origin", over="1h", every="1s").agg(n=ps.count())),
        r"has 3600 steps.*at least 3516ms",
    ),
    "steps with many features": (
        lambda app, s: app.features(
            "v",
            s.window(key="origin", over="1000s", every="1s").agg(n=ps.count()),
            *(pl.col("n").alias(f"n{number}") for number in range(32)),
        ),
        r"has 1000 steps with 33 features.*at least 1009ms",
    ),
    "a key of 64 bits without a sign": (
        lambda app, s: app.features("v", windowed(s, "gate")), "key column 'gate' is of UInt64.*cast it"
    ),
    "a key of dates": (lambda app, s: app.features("v", windowed(s, "day")), "key column 'day' is of Date"),
    "a time": (
        lambda app, s: app.features("v", windowed(s, newest=ps.max("at"))),
        r"'newest' is of Datetime.*dt\.epoch",
    ),
    "text": (
        lambda app, s: app.features("v", windowed(s), pl.lit("x").alias("text")), "'text' is of String"
    ),
    "the key changed": (
        lambda app, s: app.features("v", windowed(s), pl.col("origin") + "!"), "an expression changes the key"
    ),
    "an unknown column": (lambda app, s: app.features("v", windowed(s), pl.col("m") + 1), "cannot work"),
    "several rows": (lambda app, s: app.features("v", windowed(s), pl.col("n").shift()), "several rows"),
    "a default of nothing": (
        lambda app, s: app.features("v", windowed(s), defaults={"m": 1}), "no feature 'm'.*features are n"
    ),
    "a default of another type": (
        lambda app, s: app.features("v", windowed(s), defaults={"n": 1.5}), "default of 'n' is 1.5, not an"
    ),
    "a default that is true": (
        lambda app, s: app.features("v", windowed(s), defaults={"n": True}), "default of 'n' is True, not an"
    ),
    "stale at once": (lambda app, s: app.features("v", windowed(s), stale=0), "stale is 0, not above 0"),
    "a history in a topic": (lambda app, s: app.features("v", windowed(s), history="x"), "can have no history"),
    "a history's own column": (
        lambda app, s: app.features("v", windowed(s, offset=ps.count())), "can be called 'offset'"
    ),
    "twice": (
        lambda app, s: [app.features("v", windowed(s, key)) for key in ("origin", "carrier")], "'v' twice"
    ),
    "no name": (lambda app, s: app.features("-", windowed(s)), "cannot be called '-.features'"),
    "a column of the stream": (
        lambda app, s: s.enrich(app.features("v", windowed(s), pl.col("n").alias("seats"))),
        "has a column 'seats' already",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_can_be_no_view_is_refused(case: str) -> None:
    declare, said = REFUSED[case]
    app, departures = app_with_stream()
    with pytest.raises(ConfigurationError) as refused:
        declare(app, departures)
    text = f"{refused.value.message} {refused.value.hint}"
    assert re.search(said, text), text


def test_enriched_events_have_the_features_of_expressions_that_take_all_columns() -> None:
    """They take all of the view's, and leave the stream's own columns alone."""
    app, departures = app_with_stream()
    view = app.features("congestion", windowed(departures), cs.numeric().clip(0, 1).cast(pl.Float64))

    enriched = departures.enrich(view)

    assert dict(enriched.schema) == {**departures.schema, "n": pl.Float64()}
    transform = enriched.origin.node.parent.node.transform
    frame = pl.DataFrame({"delay": [9.5], "seats": [120], "n": [7]}, schema_overrides={"n": pl.Int64})
    empty = {name: dtype for name, dtype in departures.schema.items() if name not in frame.columns}
    frame = frame.with_columns(
        *(pl.lit(None, dtype).alias(name) for name, dtype in empty.items()), _time=pl.lit(0), _offset=pl.lit(0)
    )
    assert transform.apply(frame).frame.select("delay", "seats", "n").row(0) == (9.5, 120, 1.0)


def test_a_view_over_a_join_is_never_ahead_of_the_side_that_is_behind() -> None:
    app, departures = app_with_stream()
    arrivals = app.stream("arrivals", schema={"origin": pl.String, "at": pl.Int64}, time="at", lateness="1m")
    app.features("both", windowed(departures.join(arrivals, key="origin", before="1h"), "origin"))
    alone = departures.window(key="origin", over="1h", name="alone").agg(n=ps.count())
    app.features("one", alone)
    sinks = [sent.sink for sent in app.streams.graph.outputs.values()]
    lateness_ms = {sink.view.name: sink.lateness_ms for sink in sinks if isinstance(sink, UpdatesSink)}
    assert lateness_ms == {"both": 60_000, "one": 7_200_000}


def test_two_views_of_equal_names_are_told_apart_by_renaming() -> None:
    app, departures = app_with_stream()
    latest = {"key": "origin", "ttl": "1h", "columns": ["seats"]}
    first = app.features("first", departures.latest(**latest))
    with pytest.raises(ConfigurationError, match="two steps 'latest origin'") as twice:
        departures.latest(**latest)
    assert "name=" in str(twice.value.hint)
    same = app.features("same", departures.latest(**latest, name="again"))
    with pytest.raises(ConfigurationError, match="'seats' is a feature of 'first' and of 'same'") as shared:
        app.model("late", features=[first, same])
    assert "stream.rename({...})" in str(shared.value.hint)
    renamed = departures.rename({"seats": "places"})
    other = app.features(
        "other", renamed.latest(key="origin", ttl="1h", columns=["places"], name="places of origin")
    )
    assert app.model("late", features=[first, other]).features.views == (first.view, other.view)


@pytest.mark.parametrize(
    ("model", "outputs", "said"),
    [
        ("late", None, "score\\('late'\\) names no outputs"),
        ("late", {}, "score\\('late'\\) names no outputs"),
        ("late", ["y"], "no names with Polars types"),
        (len, {"y": pl.Float64}, "that is no model"),
    ],
)
def test_what_scores_and_what_it_gives_is_named(model: object, outputs: object, said: str) -> None:
    _, departures = app_with_stream()
    with pytest.raises(ConfigurationError, match=said) as refused:
        departures.score(model, outputs=outputs)
    assert refused.value.hint
