import lightgbm as lgb
import numpy as np
import pandas as pd
import polars as pl
import pytest
import xgboost as xgb
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

from penstock.core.errors import InvalidInput, ModelFailed
from penstock.models.libraries import wrap_model
from penstock.models.native import NativeModel
from penstock.models.samples import to_tensors
from penstock.models.signature_inference import infer_signature


def native_of(model, samples):
    predictor = wrap_model(model, where="model")
    native = NativeModel(predictor, infer_signature(predictor, samples))
    return native, to_tensors(samples, native.signature, columns=predictor.feature_names)


def test_a_pipeline_fitted_on_pandas_answers_as_on_pandas(flights):
    features = ["distance", "carrier"]
    frame = pd.DataFrame({name: flights[name].to_list() for name in features})
    transformer = make_column_transformer((OneHotEncoder(), ["carrier"]), remainder="passthrough")
    model = make_pipeline(transformer, LogisticRegression(max_iter=2000)).fit(frame, flights["late"])
    native, tensors = native_of(model, flights)
    outputs = native.run(tensors)
    assert outputs["label"].tolist() == model.predict(frame).tolist()
    np.testing.assert_allclose(outputs["probabilities"], model.predict_proba(frame), atol=1e-7)


def test_a_model_that_refuses_polars_gets_pandas(flights):
    shout = FunctionTransformer(lambda frame: frame.assign(carrier=frame["carrier"].str.upper()))
    transformer = make_column_transformer((OneHotEncoder(), ["carrier"]), remainder="passthrough")
    frame = pd.DataFrame({name: flights[name].to_list() for name in ("distance", "carrier")})
    model = make_pipeline(shout, transformer, Ridge()).fit(frame, flights["delay"])
    native, tensors = native_of(model, flights)
    np.testing.assert_allclose(native.run(tensors)["prediction"], model.predict(frame), rtol=1e-6)


def test_boosters_fitted_on_frames_through_their_wrappers(flights):
    frame = pd.DataFrame({name: flights[name].to_list() for name in ("distance", "hour")})
    for model in (xgb.XGBRegressor(n_estimators=3), lgb.LGBMRegressor(n_estimators=3, verbose=-1)):
        model.fit(frame, flights["delay"].to_numpy())
        native, tensors = native_of(model, flights)
        np.testing.assert_allclose(native.run(tensors)["prediction"], model.predict(frame), rtol=1e-6)


def test_a_booster_takes_a_frames_columns_by_their_names(data):
    names = list("abcde")
    booster = xgb.train({}, xgb.DMatrix(data.matrix, data.values, feature_names=names), 5)
    shuffled = pl.DataFrame(data.matrix, schema=names).select("e", "c", "a", "b", "d", pl.lit(1).alias("label"))
    native, tensors = native_of(booster, shuffled)
    expected = booster.predict(xgb.DMatrix(data.matrix, feature_names=names))
    np.testing.assert_allclose(native.run(tensors)["prediction"], expected, rtol=1e-6)


def test_early_stopped_boosters_leave_out_the_rounds_past_the_best(data):
    train, test = data.matrix[:500], data.matrix[500:]
    model = xgb.XGBClassifier(n_estimators=200, early_stopping_rounds=3, learning_rate=1.0, n_jobs=1)
    noise = np.random.default_rng(1).integers(0, 2, len(data.matrix))
    model.fit(train, noise[:500], eval_set=[(test, noise[500:])], verbose=False)
    booster = model.get_booster()
    assert booster.num_boosted_rounds() > model.best_iteration + 1
    native, tensors = native_of(booster, test.astype(np.float32))
    np.testing.assert_allclose(native.run(tensors)["probabilities"], model.predict_proba(test), atol=1e-6)


def test_rows_that_the_library_refuses_are_the_senders_fault(flights):
    transformer = make_column_transformer((OneHotEncoder(), ["carrier"]), remainder="passthrough")
    model = make_pipeline(transformer, Ridge()).fit(flights[["carrier", "hour"]], flights["delay"])
    native, tensors = native_of(model, flights)
    rows = {"carrier": np.array(["ZZ"], dtype=object), "hour": tensors["hour"][:1]}
    with pytest.raises(InvalidInput, match="refuses these rows: Found unknown categories"):
        native.run(rows)


class Fragile(RegressorMixin, BaseEstimator):
    def fit(self, rows, target):
        self.n_features_in_ = rows.shape[1]
        return self

    def predict(self, rows):
        if rows[0, 0] > 1:
            raise KeyError("gone")
        return np.zeros(1 if rows[0, 0] < 0 else len(rows))


def test_a_model_that_breaks_is_said_to():
    model = Fragile().fit(np.zeros((2, 1)), None)
    native, _ = native_of(model, np.zeros((3, 1)))
    with pytest.raises(ModelFailed, match="KeyError"):
        native.run({"x": np.full((3, 1), 2.0)})
    with pytest.raises(ModelFailed, match="did not answer every row"):
        native.run({"x": np.full((3, 1), -1.0)})
