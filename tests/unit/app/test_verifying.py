import io
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import penstock as ps
from penstock.app.verifying import Verified, verify
from penstock.core.clock import SystemClock
from penstock.core.errors import ConfigurationError, NotFound
from penstock.core.signature import Signature
from penstock.features.history import history_schema
from penstock.log.opening import open_log
from penstock.log.port import Log, TopicSpec
from penstock.log.records import Records, TopicPartition

SIGNATURE = Signature.of(inputs={"mean": "FP64?[-1]", "n": "INT64[-1]"}, outputs={"y": "FP64[-1]"})


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    with open_log("", tmp_path, SystemClock()) as opened:
        yield opened


def app_in(folder: Path) -> ps.App:
    app = ps.App("flights")
    departures = app.stream(
        "departures", schema={"origin": pl.String, "delay": pl.Float64, "at": pl.Int64}, time="at"
    )
    view = departures.window(key="origin", over="1h", every="5m").agg(mean=ps.mean("delay"), n=ps.count())
    congestion = app.features(
        "congestion", view, defaults={"mean": 7.0}, history=ps.parquet(folder / "history")
    )

    @app.callable("late", signature=SIGNATURE, features=[congestion], feature_keys={"origin": "airport"})
    def late(inputs: object) -> object:
        return inputs

    @app.callable("plain", signature=SIGNATURE)
    def plain(inputs: object) -> object:
        return inputs

    rows = [
        ("JFK", at(1), at(1), 0, 5, at(0), 1.5, 2),
        ("JFK", at(1), at(1), 0, 5, at(10), None, 0),
        ("EWR", at(1), at(1), 1, 5, at(0), float("nan"), 1),
    ]
    (folder / "history").mkdir()
    schema = history_schema(congestion.view)
    pl.DataFrame(rows, schema=schema, orient="row").write_parquet(folder / "history" / "a.parquet")
    return app


def at(second: float) -> datetime:
    return datetime.fromtimestamp(second, UTC)


def serve(log: Log, *rows: tuple) -> None:
    """Rows of an answer: the key, the update's partition and offset, as of when, stale, and each feature with
    whether it is its default.
    """
    names = [
        "prediction.id", "airport", "congestion.position", "congestion.as_of", "congestion.stale",
        "mean", "mean.default", "n", "n.default",
    ]  # fmt: skip
    placed = [
        (f"p{number}", key, -1 if place is None else (place[0] << 48) + place[1], *rest)
        for number, (key, place, *rest) in enumerate(rows)
    ]
    frame = pl.DataFrame(placed, schema=names, orient="row").with_columns(
        pl.col("congestion.as_of").cast(pl.Datetime("ms", "UTC"))
    )
    buffer = io.BytesIO()
    frame.write_ipc_stream(buffer)
    log.admin.ensure_topics([TopicSpec(name="flights.late.served")])
    producer = log.producer()
    records = Records(values=[buffer.getvalue()], times_ms=np.array([0]))
    producer.append(TopicPartition("flights.late.served", 0), records).result()
    producer.close()


def test_what_was_served_is_held_against_the_history(log: Log, tmp_path: Path) -> None:
    app = app_in(tmp_path)
    serve(
        log,
        ("JFK", (0, 5), at(9), False, 1.5, False, 2, False),
        ("JFK", (0, 5), at(10), False, 7.0, True, 0, False),
        ("JFK", (0, 5), at(9), True, 7.0, True, 0, True),
        ("EWR", (1, 5), at(9), False, float("nan"), False, 1, False),
        ("JFK", (0, 6), at(9), False, 1.5, False, 2, False),
        ("EWR", (0, 5), at(9), False, 1.5, False, 2, False),
        ("LGA", None, at(9), False, 7.0, True, 0, True),
    )
    serve(
        log,
        ("JFK", (0, 5), at(9), False, np.nextafter(1.5, 2), False, 2, False),
        ("JFK", (0, 5), at(9), False, 1.5, False, 3, False),
        ("JFK", (0, 5), at(9), False, 7.0, True, 2, False),
        ("JFK", (0, 5), at(10), False, 7.0, False, 0, False),
    )
    (found,) = verify(app, "late", log).values()
    counted = Verified(rows=11, same=4, different=4, absent=2, unplaced=1, other=0, examples=found.examples)
    assert found == counted
    assert found.examples[1] == "p1: served (1.5, 3), the history has (1.5, 2)"


def test_rows_of_another_definition_are_counted_apart(log: Log, tmp_path: Path) -> None:
    app = app_in(tmp_path)
    serve(log, ("JFK", (0, 5), at(9), False, 1.5, False, 2, False))
    frame = pl.DataFrame({"prediction.id": ["p"], "airport": ["JFK"]})
    buffer = io.BytesIO()
    frame.write_ipc_stream(buffer)
    producer = log.producer()
    records = Records(values=[buffer.getvalue()], times_ms=np.array([0]))
    producer.append(TopicPartition("flights.late.served", 0), records).result()
    producer.close()
    assert verify(app, "late", log)["congestion"] == Verified(rows=2, same=1, other=1)


def test_what_was_never_served_and_what_has_no_features_is_refused(log: Log, tmp_path: Path) -> None:
    app = app_in(tmp_path)
    with pytest.raises(NotFound, match="nothing was served"):
        verify(app, "late", log)
    with pytest.raises(NotFound, match="no model 'other'"):
        verify(app, "other", log)
    with pytest.raises(ConfigurationError, match="takes no features"):
        verify(app, "plain", log)
