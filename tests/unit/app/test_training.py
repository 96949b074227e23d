from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import polars as pl
import pytest

import penstock as ps
from penstock.app.features import DeclaredFeatures
from penstock.app.training import read_history
from penstock.core.errors import ConfigurationError, InvalidInput
from penstock.features.history import history_schema

SCHEMA = {"origin": pl.String, "gate": pl.Int32, "delay": pl.Float64, "at": pl.Int64}


@pytest.fixture
def views(tmp_path: Path) -> dict[str, DeclaredFeatures]:
    app = ps.App("flights")
    departures = app.stream("departures", schema=SCHEMA, time="at")
    by_origin = departures.window(key="origin", over="1h", every="5m").agg(mean=ps.mean("delay"))
    by_gate = departures.window(key="gate", over="1h", every="5m").agg(n=ps.count())
    app.features("origins", by_origin, defaults={"mean": 0.5}, history=ps.parquet(tmp_path / "origins"))
    app.features("gates", by_gate, history=ps.delta(tmp_path / "gates"))
    return dict(app.streams.features)


def moment(second: float) -> datetime:
    return datetime(2013, 1, 1, tzinfo=UTC) + timedelta(seconds=second)


def write_history(view: DeclaredFeatures, rows: list[tuple]) -> None:
    """Rows of a key, when the stream came to it (and its offset), when it was available, from when it holds, a
    feature.
    """
    frame = pl.DataFrame(
        [
            (key, moment(event), moment(available), 0, event, moment(begin), value)
            for key, event, available, begin, value in rows
        ],
        schema=history_schema(view.view),
        orient="row",
    )
    if view.name == "gates":
        frame.write_delta(str(view.history.folder))
    else:
        view.history.folder.mkdir()
        frame.write_parquet(view.history.folder / "part.parquet")


@pytest.fixture
def histories(views: dict[str, DeclaredFeatures]) -> dict[str, DeclaredFeatures]:
    write_history(
        views["origins"], [("JFK", 10, 12, 0, 1.5), ("JFK", 20, 25, 0, 2.5), ("JFK", 20, 25, 3600, None)]
    )
    write_history(views["gates"], [(7, 10, 12, 0, 3)])
    return views


LABELS = pl.DataFrame(
    {
        "flight": [1, 2, 3, 4, 5],
        "origin": pl.Series(["JFK", "JFK", "EWR", "JFK", "JFK"], dtype=pl.Categorical),
        "gate": pl.Series([7, 8, 7, None, 7], dtype=pl.UInt8),
        "asked": [moment(second) for second in (11, 12, 30, 24.999, 5000)],
    }
)


def test_labels_are_joined_with_what_was_available(histories: dict[str, DeclaredFeatures]) -> None:
    joined = ps.training_set(LABELS, *histories.values(), time="asked")
    assert joined.drop("mean", "n").equals(LABELS)
    assert joined["mean"].to_list() == [0.5, 1.5, 0.5, 1.5, 0.5]
    assert joined["n"].to_list() == [0, 0, 3, 0, 3]


def test_or_with_what_the_stream_had_come_to(histories: dict[str, DeclaredFeatures]) -> None:
    joined = ps.training_set(LABELS, histories["origins"], time="asked", by="event_time")
    assert joined["mean"].to_list() == [1.5, 1.5, 0.5, 2.5, 0.5]


def test_or_with_what_was_available_at_another_time(histories: dict[str, DeclaredFeatures]) -> None:
    later = LABELS.with_columns(decided=pl.col("asked") + pl.duration(seconds=1))
    joined = ps.training_set(later, histories["origins"], time="asked", available="decided")
    assert joined["mean"].to_list() == [1.5, 1.5, 0.5, 2.5, 0.5]


def test_times_and_keys_may_be_called_and_written_otherwise(histories: dict[str, DeclaredFeatures]) -> None:
    west = timezone(timedelta(hours=-5))
    other = pl.DataFrame(
        {
            "airport": ["JFK", "JFK"],
            "asked": pl.Series([moment(11), moment(12)]).dt.convert_time_zone("America/New_York"),
            "ms": [int(moment(11).astimezone(west).timestamp() * 1000), int(moment(12).timestamp() * 1000)],
        }
    )
    for time in ("asked", "ms"):
        joined = ps.training_set(other, histories["origins"], time=time, keys={"origin": "airport"})
        assert joined["mean"].to_list() == [0.5, 1.5]


def test_a_history_may_lie_elsewhere(histories: dict[str, DeclaredFeatures], tmp_path: Path) -> None:
    (tmp_path / "origins").rename(tmp_path / "moved")
    joined = ps.training_set(
        LABELS, histories["origins"], time="asked", histories={"origins": tmp_path / "moved"}
    )
    assert joined["mean"][1] == 1.5


REFUSED = {
    "a time that is not there": ({"time": "when"}, LABELS, "no column 'when'.*they have flight"),
    "a time that is none": ({"time": "origin"}, LABELS, "'origin' is of Categorical.*no time"),
    "a time without a value": (
        {"time": "asked"}, LABELS.with_columns(asked=pl.lit(None, pl.Datetime("ms"))), "rows without a time"
    ),
    "a key that is not there": ({"time": "asked"}, LABELS.drop("origin"), "no column 'origin'.*keys="),
    "a key of another type": (
        {"time": "asked"}, LABELS.with_columns(origin=pl.lit(1)), "'origin' is of Int32.*key 'origin' of String"
    ),
    "a feature that is there": ({"time": "asked"}, LABELS.with_columns(mean=1), "'mean' is one of the"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_joined_is_refused(case: str, histories: dict[str, DeclaredFeatures]) -> None:
    options, labels, said = REFUSED[case]
    with pytest.raises(InvalidInput) as refused:
        ps.training_set(labels, histories["origins"], **options)
    assert pl.Series([f"{refused.value.message} {refused.value.hint}"]).str.contains(said)[0], refused.value


def test_a_view_without_a_history_is_refused(views: dict[str, DeclaredFeatures], tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="there is no history of view 'origins'") as refused:
        ps.training_set(LABELS, views["origins"], time="asked")
    assert "penstock features backfill" in refused.value.hint
    app = ps.App("other")
    departures = app.stream("departures", schema=SCHEMA, time="at")
    none = app.features("origins", departures.window(key="origin", over="1h").agg(n=ps.count()))
    with pytest.raises(ConfigurationError, match="keep no history"):
        ps.training_set(LABELS, none, time="asked")
    with pytest.raises(InvalidInput, match="no views"):
        ps.training_set(LABELS, time="asked")


def test_the_history_of_another_view_is_refused(histories: dict[str, DeclaredFeatures], tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"origins has no column gate, n, which view 'gates' has"):
        read_history(histories["gates"].view, tmp_path / "origins")


def test_a_damaged_history_is_told(histories: dict[str, DeclaredFeatures], tmp_path: Path) -> None:
    (tmp_path / "origins" / "part.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(InvalidInput, match="origins cannot be read"):
        read_history(histories["origins"].view, tmp_path / "origins")
