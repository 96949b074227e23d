"""Features that another stream learns, beside the rows of this one."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from penstock.app.looked_up import LookedUpFeatures
from penstock.core.clock import ManualClock
from penstock.core.errors import ConfigurationError
from penstock.core.tensors import DataType
from penstock.features.embedded import EmbeddedOnlineStore
from penstock.features.online import Progress, Update
from penstock.features.timeline import TimelineRows, write_timelines
from penstock.features.view import Feature, FeatureView, KeyColumn, encode_keys
from penstock.streams.looking_up import LookUp
from penstock.streams.operator import OFFSET, TIME

VIEW = FeatureView(
    name="weather",
    keys=(
        KeyColumn(name="airport", datatype=DataType.STRING),
        KeyColumn(name="runway", datatype=DataType.INT64),
    ),
    features=(
        Feature(name="temp", datatype=DataType.FP64, default=-99.0),
        Feature(name="gusts", datatype=DataType.INT64, default=7),
    ),
    topic="app.weather.features",
)
SCHEMA = pl.Schema({"origin": pl.Categorical(), "runway": pl.Int32(), "number": pl.Int64()})


class Unheard:
    def read(self, view, reading) -> None: ...

    def failed(self, view, error) -> None:
        raise AssertionError(error)


@pytest.fixture
def source(tmp_path: Path) -> LookedUpFeatures:
    """EWR's first runway has 10 degrees from 1000 on and 20 from 2000 on, and no gusts from then on."""
    store = EmbeddedOnlineStore(tmp_path)
    rows = TimelineRows(
        np.array([1000, 2000]),
        [np.array([10.0, 20.0]), np.array([3, 0])],
        [None, np.array([True, False])],
        np.array([2]),
    )
    (timeline,) = write_timelines(rows)
    (key,) = encode_keys([["EWR"], [1]])
    writer = store.writer(VIEW)
    writer.put(0, [Update(key, 5, 0, timeline)], Progress(0, 3000, 6, 0))
    writer.close()
    source = LookedUpFeatures()
    source.bind(store, ManualClock(), Unheard())
    return source


def frame_of(*rows: tuple[str | None, int | None, int]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "origin": [row[0] for row in rows],
            "runway": [row[1] for row in rows],
            "number": list(range(len(rows))),
            TIME: [row[2] for row in rows],
            OFFSET: list(range(len(rows))),
        },
        schema={**SCHEMA, TIME: pl.Int64(), OFFSET: pl.Int64()},
    )


def test_each_row_has_what_is_known_of_its_key_as_of_its_time(source: LookedUpFeatures) -> None:
    transform = LookUp(view=VIEW, columns=("origin", "runway"), source=source).build(SCHEMA)
    frame = frame_of(("EWR", 1, 1500), ("EWR", 1, 2000), ("EWR", 2, 2000), ("JFK", 1, 2000), (None, None, 9))

    result = transform.apply(frame)

    assert result.failed == ()
    assert result.frame.schema.names() == [*frame.columns, "temp", "gusts"]
    assert result.frame["temp"].to_list() == [10, 20, -99, -99, -99]
    assert result.frame["gusts"].to_list() == [3, 7, 7, 7, 7]
    assert result.frame["number"].to_list() == [0, 1, 2, 3, 4]


def test_no_rows_have_the_same_columns(source: LookedUpFeatures) -> None:
    transform = LookUp(view=VIEW, columns=("origin", "runway"), source=source).build(SCHEMA)

    assert transform.apply(frame_of()).frame.schema == transform.apply(frame_of(("EWR", 1, 0))).frame.schema
    assert transform.schema == pl.Schema({**SCHEMA, "temp": pl.Float64(), "gusts": pl.Int64()})


@pytest.mark.parametrize(
    ("columns", "schema", "said"),
    [
        (("airport", "runway"), SCHEMA, "no column 'airport' for the key 'airport'"),
        (("runway", "runway"), SCHEMA, "column 'runway' is of Int32, the key 'airport' is text"),
        (("origin", "origin"), SCHEMA, "column 'origin' is of Categorical, the key 'runway' is an integer"),
        (("origin", "runway"), {**SCHEMA, "temp": pl.Int8()}, "has a column 'temp' already"),
    ],
)
def test_keys_that_do_not_fit_are_told(columns, schema, said, source: LookedUpFeatures) -> None:
    with pytest.raises(ConfigurationError, match=said):
        LookUp(view=VIEW, columns=columns, source=source).build(pl.Schema(schema))
