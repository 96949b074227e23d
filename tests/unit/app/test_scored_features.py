"""Features among a stream's columns, against what requests do with the same values."""

import numpy as np
import polars as pl
import pytest

from penstock.app.model_features import ModelFeatures
from penstock.app.scored_features import ScoredFeatures
from penstock.core.errors import ConfigurationError
from penstock.core.signature import Signature
from penstock.core.tensors import DataType
from penstock.features.view import Feature, FeatureView, KeyColumn
from penstock.observe.metrics import MetricSet

VIEW = FeatureView(
    name="congestion",
    keys=(KeyColumn(name="origin", datatype=DataType.STRING),),
    features=(
        Feature(name="n", datatype=DataType.INT64, default=7),
        Feature(name="mean", datatype=DataType.FP64, default=-1.0),
        Feature(name="bad", datatype=DataType.BOOL, default=False),
    ),
    topic="a.congestion.features",
)
FRAME = pl.DataFrame(
    {"n": [1, 128, -129], "mean": [0.1, float("nan"), 1e300], "bad": [True, False, True], "other": [1, 2, 3]}
)


def signature(**inputs: str) -> Signature:
    return Signature.of(inputs=inputs, outputs={"y": "FP64[-1]"})


def scored(metrics: MetricSet | None = None) -> ScoredFeatures:
    return ScoredFeatures("late", ModelFeatures(views=(VIEW,), keys={}), metrics or MetricSet())


def test_what_an_input_has_no_place_for_is_the_default_and_counted_when_it_was_scored() -> None:
    metrics = MetricSet()
    features = scored(metrics)
    given = signature(n="INT8[-1]", mean="FP32[-1, 1]", bad="FP16[-1]", other="INT64[-1]")

    filled = features.filled(FRAME, given, {})

    assert {name: (each.dtype, each.shape) for name, each in filled.tensors.items()} == {
        "n": (np.int8, (3,)),
        "mean": (np.float32, (3, 1)),
        "bad": (np.float16, (3,)),
    }
    assert filled.tensors["n"].tolist() == [1, 7, 7]
    assert filled.tensors["mean"].ravel().tolist() == [float(np.float32(0.1)), -1.0, -1.0]
    assert filled.tensors["bad"].tolist() == [1.0, 0.0, 1.0]
    assert "misfit" not in metrics.render().replace("did not fit", "")
    features.count(filled.misfits)
    features.count(filled.misfits)
    text = metrics.render()
    for name in ("n", "mean"):
        said = f'penstock_feature_defaults_total{{feature="{name}",reason="misfit",view="congestion"}} 4'
        assert said in text, text


def test_what_is_no_feature_is_left_to_others() -> None:
    given = signature(n="INT8[-1]", mean="FP32[-1]", other="INT64[-1]")
    named = scored().filled(FRAME, given, {"n": "other"})
    assert list(named.tensors) == ["mean"]
    assert list(scored().filled(FRAME.cast({"n": pl.Float64}), given, {}).tensors) == ["mean"]
    nulls = FRAME.with_columns(mean=pl.lit(None, pl.Float64))
    assert list(scored().filled(nulls, given, {}).tensors) == ["n"]
    assert scored().filled(FRAME[:0], given, {}).tensors["n"].shape == (0,)


def test_another_version_may_have_other_inputs() -> None:
    features = scored()
    wide = signature(n="INT64[-1]", mean="FP64?[-1]")
    assert features.filled(FRAME, signature(n="INT8[-1]"), {}).misfits == {("congestion", "n"): 2}
    filled = features.filled(FRAME, wide, {})
    assert filled.misfits == {}
    assert filled.tensors["n"].tolist() == FRAME["n"].to_list()
    assert filled.tensors["mean"].tobytes() == FRAME["mean"].to_numpy().tobytes()
    with pytest.raises(ConfigurationError, match="'n' of 'congestion' is INT64"):
        features.filled(FRAME, signature(n="STRING[-1]"), {})
