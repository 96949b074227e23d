import polars as pl
import pytest

from penstock.core.errors import ConfigurationError
from penstock.core.tensors import DataType
from penstock.features.timeline import read_timelines
from penstock.features.view import Feature, FeatureView, KeyColumn, encode_keys
from penstock.streams.feature_views.feature_rows import FeatureRowsConfig

VIEW = FeatureView(
    name="congestion",
    keys=(KeyColumn(name="origin", datatype=DataType.STRING), KeyColumn(name="gate", datatype=DataType.INT64)),
    features=(
        Feature(name="mean", datatype=DataType.FP64, default=0.0),
        Feature(name="n", datatype=DataType.INT64, default=0),
        Feature(name="full", datatype=DataType.BOOL, default=False),
    ),
    topic="a.congestion.features",
)
SCHEMA = pl.Schema(
    {
        "origin": pl.Categorical(),
        "gate": pl.Int16(),
        "mean": pl.Float32(),
        "n": pl.UInt32(),
        "full": pl.Boolean(),
    }
)


def rows(*values: tuple) -> pl.DataFrame:
    names = [*SCHEMA, "_from", "_timeline", "_time", "_offset"]
    types = dict(zip(names, [*SCHEMA.values(), *[pl.Int64()] * 4], strict=True))
    return pl.DataFrame(
        [(*value, number * 10, timeline, 0, 0) for number, (timeline, *value) in enumerate(values)],
        schema=types,
        orient="row",
    )


def test_all_columns_have_the_types_of_the_view() -> None:
    given = rows((0, "JFK", 1, 1.5, 3, True), (0, "JFK", 1, None, None, None), (1, None, None, 2.5, 1, False))
    made = FeatureRowsConfig(view=VIEW, schema=SCHEMA).build()
    computed = made.computed(given)
    assert not computed.failed
    assert computed.frame.schema == {
        "origin": pl.String(), "gate": pl.Int64(), "mean": pl.Float64(), "n": pl.Int64(), "full": pl.Boolean(),
    }  # fmt: skip
    keys, timelines = made.timelines(given, computed)
    assert keys == encode_keys([["JFK", None], [1, None]])
    first, later = (read_timelines(timelines, VIEW.features, time) for time in (0, 10))
    assert [column.tolist() for column in first.columns] == [[1.5, 2.5], [3, 1], [True, False]]
    assert [known.tolist() for known in first.known] == [[True, True]] * 3
    assert [known.tolist() for known in later.known] == [[False, True]] * 3
    assert later.columns[1].tolist() == [0, 1]


def test_rows_that_fail_keep_their_places() -> None:
    given = rows(*((number, "JFK", number, 1.0, count, True) for number, count in enumerate([300, 1, 2, 400])))
    narrow = pl.col("n").cast(pl.UInt8)
    computed = FeatureRowsConfig(view=VIEW, schema=SCHEMA, expressions=(narrow,)).build().computed(given)
    assert [row.row for row in computed.failed] == [0, 3]
    assert computed.frame["n"].to_list() == [None, 1, 2, None]
    assert computed.frame["mean"].to_list() == [None, 1.0, 1.0, None]
    assert computed.frame["gate"].to_list() == [0, 1, 2, 3]


def test_all_rows_may_fail() -> None:
    given = rows((0, "JFK", 1, 1.0, 300, True))
    narrow = pl.col("n").cast(pl.UInt8)
    made = FeatureRowsConfig(view=VIEW, schema=SCHEMA, expressions=(narrow,)).build()
    computed = made.computed(given)
    assert computed.frame.rows() == [("JFK", 1, None, None, None)]
    assert len(made.timelines(given, computed)[1]) == 1


def test_an_expression_of_several_rows_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="several rows"):
        FeatureRowsConfig(view=VIEW, schema=SCHEMA, expressions=(pl.col("n").cum_sum(),)).build()
