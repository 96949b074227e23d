"""The oracle is the library itself, asked on the rows as the user has them."""

import lightgbm as lgb
import numpy as np
import polars as pl
import pytest
import xgboost as xgb
from onnx import checker
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeRegressor

import penstock.models.compilation.compile as compiling
from penstock.core.tensors import DataType
from penstock.models.compilation import compile_to_onnx
from penstock.models.libraries import wrap_model
from penstock.models.native import NativeModel
from penstock.models.onnx_io import OnnxBinding, open_session
from penstock.models.onnx_signature import onnx_signature
from penstock.models.samples import to_tensors
from penstock.models.signature_inference import infer_signature

FEATURES = ["distance", "hour", "night", "carrier", "origin"]
TEXT = ["carrier", "origin"]
NUMBERS = ["distance", "hour"]


def prepare(model, samples):
    predictor = wrap_model(model, where="model")
    native = NativeModel(predictor, infer_signature(predictor, samples))
    return native, to_tensors(samples, native.signature, columns=predictor.feature_names)


def compiled_answers(model, samples):
    """The answers of the compiled form, which has to have passed, with its precision."""
    native, tensors = prepare(model, samples)
    onnx, compilations = compile_to_onnx(native, tensors)
    assert onnx is not None, compilations
    assert compilations[-1].parity.rows == len(samples)
    binding = OnnxBinding(open_session(onnx, where="test"), native.signature)
    return binding.run(tensors), compilations[-1].precision


def assert_like_library(answers, model, rows):
    if "label" in answers:
        assert answers["label"].tolist() == model.predict(rows).tolist()
        if "probabilities" in answers:
            np.testing.assert_allclose(answers["probabilities"], model.predict_proba(rows), atol=1e-5)
    else:
        expected = model.predict(rows)
        np.testing.assert_allclose(answers["prediction"], expected, atol=1e-5 * np.abs(expected).max())


CLASSIFIERS = [
    ExtraTreesClassifier(10, random_state=0),
    GradientBoostingClassifier(n_estimators=10),
    HistGradientBoostingClassifier(max_iter=10),
    LogisticRegression(),
    RandomForestClassifier(20, random_state=0),
    lgb.LGBMClassifier(n_estimators=10, verbose=-1, n_jobs=1),
]
REGRESSORS = [
    DecisionTreeRegressor(max_depth=8),
    HistGradientBoostingRegressor(max_iter=10),
    RandomForestRegressor(10, random_state=0),
    Ridge(),
    lgb.LGBMRegressor(n_estimators=10, verbose=-1, n_jobs=1),
    xgb.XGBRegressor(n_estimators=10, n_jobs=1),
    make_pipeline(SimpleImputer(), StandardScaler(), RandomForestRegressor(10, random_state=0)),
]
NAN_KINDS = ("Hist", "Random", "Extra", "Decision", "LGBM", "XGB")


@pytest.mark.parametrize("model", CLASSIFIERS, ids=lambda model: type(model).__name__)
@pytest.mark.parametrize("target", ["binary", "letters"])
def test_classifiers_on_a_matrix(model, target, data):
    model.fit(data.matrix, getattr(data, target))
    answers, _ = compiled_answers(model, data.matrix)
    assert_like_library(answers, model, data.matrix)


@pytest.mark.parametrize("model", REGRESSORS, ids=lambda model: type(model).__name__)
def test_regressors_on_a_matrix(model, data):
    model.fit(data.matrix, data.values)
    answers, _ = compiled_answers(model, data.matrix)
    assert_like_library(answers, model, data.matrix)


@pytest.mark.parametrize(
    "model",
    [model for model in (*CLASSIFIERS, *REGRESSORS) if type(model).__name__.startswith(NAN_KINDS)],
    ids=lambda model: type(model).__name__,
)
@pytest.mark.parametrize("fitted_on_nan", [True, False])
def test_trees_send_nan_where_the_library_sends_it(model, fitted_on_nan, data, with_nan):
    target = data.letters if model in CLASSIFIERS else data.values
    model.fit(with_nan if fitted_on_nan else data.matrix, target)
    answers, _ = compiled_answers(model, with_nan)
    assert_like_library(answers, model, with_nan)


def test_ties_of_a_forest_are_broken_as_the_library_breaks_them(data):
    model = RandomForestClassifier(10, random_state=0).fit(data.matrix[:500], data.binary[:500])
    ties = (model.predict_proba(data.matrix)[:, 0] == 0.5).sum()
    assert ties > 10
    answers, _ = compiled_answers(model, data.matrix)
    assert answers["label"].tolist() == model.predict(data.matrix).tolist()


def rows_above_thresholds(model, matrix):
    """Rows with values that float64 tells from a threshold and float32 does not."""
    rows = matrix.copy()
    if hasattr(model, "_predictors"):
        nodes = np.concatenate([tree.nodes for step in model._predictors for tree in step])
        nodes = nodes[nodes["is_leaf"] == 0]
        splits = list(zip(nodes["feature_idx"], nodes["num_threshold"], strict=True))
    else:
        table = getattr(model, "booster_", model).trees_to_dataframe()
        table = table[table["threshold"].notna()]
        columns = [int(name.removeprefix("Column_")) for name in table["split_feature"]]
        splits = list(zip(columns, table["threshold"], strict=True))
    for row, (feature, threshold) in enumerate(splits[: len(rows)]):
        rows[row, feature] = np.nextafter(threshold, np.inf)
    return rows


@pytest.mark.parametrize(
    "model",
    [
        HistGradientBoostingRegressor(max_iter=50),
        HistGradientBoostingClassifier(max_iter=30),
        lgb.LGBMRegressor(n_estimators=50, verbose=-1, n_jobs=1),
        lgb.LGBMClassifier(n_estimators=30, verbose=-1, n_jobs=1),
    ],
    ids=lambda model: type(model).__name__,
)
def test_values_at_thresholds_fail_in_float32_and_are_exact_in_float64(model, data):
    model.fit(data.matrix, data.letters if "Classifier" in type(model).__name__ else data.values)
    rows = rows_above_thresholds(model, data.matrix)
    native, tensors = prepare(model, rows)
    onnx, (narrow, wide) = compile_to_onnx(native, tensors)
    assert onnx is not None
    assert not narrow.passed
    assert narrow.parity.values_differ > 10
    assert narrow.parity.float32_rows > 10
    assert (wide.precision, wide.passed) == ("float64", True)


def test_a_scaled_forest_passes_in_float64(data):
    rows = data.matrix * 1e6
    model = make_pipeline(StandardScaler(), RandomForestRegressor(20, random_state=0)).fit(rows, data.values)
    answers, _ = compiled_answers(model, rows)
    assert_like_library(answers, model, rows)


def encoded(encoder, *, remainder="passthrough"):
    return make_column_transformer((encoder, TEXT), remainder=remainder)


FRAME_MODELS = {
    "one-hot, scaled, linear": (
        make_column_transformer(
            (OneHotEncoder(handle_unknown="ignore"), TEXT),
            (make_pipeline(SimpleImputer(), StandardScaler()), NUMBERS),
            ("passthrough", ["night"]),
        ),
        LogisticRegression(max_iter=300),
    ),
    "one-hot, forest": (
        encoded(OneHotEncoder(sparse_output=False)),
        RandomForestClassifier(10, random_state=0),
    ),
    "ordinal, histogram boosting": (
        encoded(OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)),
        HistGradientBoostingClassifier(max_iter=10),
    ),
    "ordinal with NaN for unknown": (
        encoded(OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan)),
        HistGradientBoostingClassifier(max_iter=10),
    ),
    "imputed text": (
        encoded(
            make_pipeline(
                SimpleImputer(strategy="most_frequent"),
                OneHotEncoder(handle_unknown="ignore", sparse_output=False),
            )
        ),
        LogisticRegression(max_iter=1000),
    ),
    "whole numbers one-hot": (
        make_column_transformer((OneHotEncoder(handle_unknown="ignore"), [*TEXT, "hour"])),
        LogisticRegression(max_iter=300),
    ),
    "XGBoost": (
        encoded(OneHotEncoder(sparse_output=False, handle_unknown="ignore")),
        xgb.XGBClassifier(n_estimators=10, n_jobs=1),
    ),
    "LightGBM": (
        encoded(OneHotEncoder(sparse_output=False, handle_unknown="ignore")),
        lgb.LGBMClassifier(n_estimators=10, verbose=-1, n_jobs=1),
    ),
}


@pytest.mark.filterwarnings("ignore:X does not have valid feature names:UserWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", FRAME_MODELS)
def test_pipelines_on_columns(name, flights):
    model = make_pipeline(*FRAME_MODELS[name]).fit(flights[FEATURES], flights["late"].to_numpy())
    answers, _ = compiled_answers(model, flights)
    assert_like_library(answers, model, flights[FEATURES])


def test_an_unseen_category_is_the_same_to_both_forms(flights):
    model = make_pipeline(*FRAME_MODELS["one-hot, scaled, linear"]).fit(flights[FEATURES], flights["late"])
    native, tensors = prepare(model, flights)
    onnx, _ = compile_to_onnx(native, tensors)
    binding = OnnxBinding(open_session(onnx, where="test"), native.signature)
    rows = {name: array[:2] for name, array in tensors.items()}
    rows["carrier"] = np.array(["ZZ", ""], dtype=object)
    frame = flights[FEATURES][:2].with_columns(carrier=pl.Series(["ZZ", ""]))
    np.testing.assert_allclose(binding.run(rows)["probabilities"], model.predict_proba(frame), atol=1e-6)


def test_an_estimator_fitted_on_a_frame_takes_columns(flights):
    features = ["distance", "hour", "night"]
    model = HistGradientBoostingRegressor(max_iter=10).fit(flights[features], flights["delay"])
    native, _ = prepare(model, flights)
    assert [spec.name for spec in native.signature.inputs] == features
    answers, _ = compiled_answers(model, flights)
    assert_like_library(answers, model, flights[features])


def test_columns_whose_names_no_converter_would_choose(flights):
    frame = flights.select(
        pl.col("distance").alias("dep delay (min)"), pl.col("hour").alias("variable"), "carrier"
    )
    transformer = make_column_transformer((OneHotEncoder(), ["carrier"]), remainder="passthrough")
    model = make_pipeline(transformer, Ridge()).fit(frame, flights["delay"])
    answers, _ = compiled_answers(model, frame)
    assert_like_library(answers, model, frame)


@pytest.mark.parametrize("objective", ["binary:logistic", "multi:softprob", "reg:squarederror"])
def test_xgboost_boosters(objective, data):
    target = {"binary:logistic": data.binary, "multi:softprob": np.digitize(data.values, [-1, 1])}
    labels = target.get(objective, data.values)
    classes = {"num_class": 3} if objective == "multi:softprob" else {}
    matrix = xgb.DMatrix(data.matrix, labels, nthread=1)
    model = xgb.train({"objective": objective, "nthread": 1, **classes}, matrix, 10)
    answers, _ = compiled_answers(model, data.matrix)
    expected = model.predict(xgb.DMatrix(data.matrix))
    given = answers["prediction"] if "prediction" in answers else answers["probabilities"]
    np.testing.assert_allclose(given[:, 1] if objective == "binary:logistic" else given, expected, atol=1e-5)


@pytest.mark.parametrize("objective", ["binary", "multiclass", "regression"])
def test_lightgbm_boosters(objective, data):
    target = {"binary": data.binary, "multiclass": np.digitize(data.values, [-1, 1])}
    classes = {"num_class": 3} if objective == "multiclass" else {}
    dataset = lgb.Dataset(data.matrix, target.get(objective, data.values))
    model = lgb.train({"objective": objective, "verbose": -1, "num_threads": 1, **classes}, dataset, 10)
    rows = rows_above_thresholds(model, data.matrix)
    answers, precision = compiled_answers(model, rows)
    assert precision == "float64"
    expected = model.predict(rows)
    given = answers["prediction"] if "prediction" in answers else answers["probabilities"]
    np.testing.assert_allclose(given[:, 1] if objective == "binary" else given, expected, atol=1e-5)


def test_lightgbm_with_categories(data):
    rows = data.matrix.copy()
    rows[:, 4] = np.random.default_rng(3).integers(0, 8, len(rows))
    target = data.values + rows[:, 4] % 3
    model = lgb.LGBMRegressor(n_estimators=20, verbose=-1, n_jobs=1)
    model.fit(rows, target, categorical_feature=[4])
    answers, _ = compiled_answers(model, rows)
    assert_like_library(answers, model, rows)


def test_histogram_boosting_with_categories_stays_native(data):
    rows = data.matrix.copy()
    rows[:, 4] = np.random.default_rng(3).integers(0, 8, len(rows))
    model = HistGradientBoostingRegressor(max_iter=20, categorical_features=[4])
    native, tensors = prepare(model.fit(rows, data.values + rows[:, 4] % 3), rows)
    onnx, compilations = compile_to_onnx(native, tensors)
    assert onnx is None
    assert all(compilation.parity.values_differ > 0 for compilation in compilations)


def test_the_compiled_form_is_a_valid_graph_with_the_signature(data):
    native, tensors = prepare(RandomForestClassifier(5).fit(data.matrix, data.letters), data.matrix)
    onnx, _ = compile_to_onnx(native, tensors)
    checker.check_model(onnx, full_check=True)
    read = onnx_signature(open_session(onnx, where="test"), where="test")
    assert [spec.describe() for spec in read.inputs] == ["FP32?[-1, 5]"]
    assert [spec.describe() for spec in read.outputs] == [spec.describe() for spec in native.signature.outputs]


def test_labels_of_a_classifier_without_probabilities(data):
    model = LinearSVC().fit(data.matrix, data.letters)
    answers, _ = compiled_answers(model, data.matrix)
    assert list(answers) == ["label"]
    assert answers["label"].tolist() == model.predict(data.matrix).tolist()


def test_without_samples_nothing_is_compiled(data):
    native, _ = prepare(Ridge().fit(data.matrix, data.values), data.matrix)
    onnx, (compilation,) = compile_to_onnx(native, None)
    assert onnx is None
    assert "no sample rows" in compilation.failure


def test_what_has_no_converter_fails_with_one_short_line(data):
    model = make_pipeline(FunctionTransformer(np.sinh), Ridge()).fit(data.matrix, data.values)
    native, tensors = prepare(model, data.matrix)
    onnx, compilations = compile_to_onnx(native, tensors)
    assert onnx is None
    assert [compilation.precision for compilation in compilations] == ["float32", "float64"]
    for compilation in compilations:
        assert "cannot be converted" in compilation.failure
        assert "\n" not in compilation.failure
        assert len(compilation.failure) < 400


def test_a_wrong_graph_fails_the_gate(data, monkeypatch):
    native, tensors = prepare(Ridge().fit(data.matrix, data.values), data.matrix)
    wrong, _ = prepare(Ridge(alpha=5.0).fit(data.matrix, data.values), data.matrix)
    convert = compiling._convert
    monkeypatch.setattr(compiling, "_convert", lambda _, precision: convert(wrong, precision))
    onnx, compilations = compile_to_onnx(native, tensors)
    assert onnx is None
    assert all(compilation.parity.values_differ > 0 for compilation in compilations)


def test_a_graph_that_is_wrong_for_nan_alone_fails_the_gate(data, monkeypatch):
    model = RandomForestRegressor(10, random_state=0).fit(data.matrix, data.values)
    native, tensors = prepare(model, data.matrix)
    monkeypatch.setattr(compiling, "send_missing", lambda model, source: None)
    onnx, compilations = compile_to_onnx(native, tensors)
    assert onnx is None
    assert "nan in input 'x'" in compilations[0].failure


def test_the_gate_looks_at_rows_from_all_over_the_samples():
    spread = compiling._spread({"x": np.arange(200_000)})["x"]
    assert (len(spread), spread[0], spread[-1]) == (compiling.GATE_ROWS_MAX, 0, 199_999)


def test_float32_inputs_need_no_float64(data):
    narrow = data.matrix.astype(np.float32)
    native, tensors = prepare(HistGradientBoostingRegressor(max_iter=20).fit(narrow, data.values), narrow)
    assert native.signature.inputs[0].datatype is DataType.FP32
    _, compilations = compile_to_onnx(native, tensors)
    assert [compilation.precision for compilation in compilations] == ["float32"]
    assert compilations[0].parity.float32_rows == 0


def test_calibrated_models_pass_or_stay_native(data):
    model = CalibratedClassifierCV(LogisticRegression(), cv=2).fit(data.matrix, data.binary)
    native, tensors = prepare(model, data.matrix)
    onnx, compilations = compile_to_onnx(native, tensors)
    assert (onnx is not None) == compilations[-1].passed


IDS = 1_700_000_000


def ids_and_labels(rows=4_000):
    rng = np.random.default_rng(5)
    x = np.column_stack([rng.integers(IDS, IDS + 5_000, rows), rng.integers(0, 100, rows)])
    return x, ((x[:, 0] % 1_000) > 500).astype(np.int64)


def as_frame(x, dtype):
    return pl.DataFrame({name: x[:, place].astype(dtype) for place, name in enumerate(("id", "hour"))})


def booster_on_ids(x, y):
    rows = x.to_numpy() if isinstance(x, pl.DataFrame) else x
    return lgb.train({"objective": "binary", "verbose": -1, "num_threads": 1}, lgb.Dataset(rows, y), 10)


def pipeline_on_ids(x, y):
    return make_pipeline(SimpleImputer(), HistGradientBoostingClassifier(max_iter=10)).fit(x, y)


@pytest.mark.parametrize(
    "fit",
    [
        lambda x, y: HistGradientBoostingClassifier(max_iter=10).fit(x, y),
        lambda x, y: lgb.LGBMRegressor(n_estimators=10, verbose=-1, n_jobs=1).fit(x, y),
        lambda x, y: RandomForestClassifier(10, random_state=0).fit(x, y),
        lambda x, y: xgb.XGBClassifier(n_estimators=10, n_jobs=1).fit(np.asarray(x), y),
        booster_on_ids,
        pipeline_on_ids,
    ],
    ids=["histogram", "lightgbm", "forest", "xgboost", "booster", "pipeline"],
)
@pytest.mark.parametrize("dtype", [np.int64, np.int32, None])
def test_large_ids_are_answered_as_the_library_does_whatever_the_samples(fit, dtype):
    x, y = ids_and_labels()
    model = fit(x if dtype is None else as_frame(x, dtype), y)
    samples = x.copy()
    samples[:, 0] %= 1_000
    if dtype is not None:
        x, samples = as_frame(x, dtype), as_frame(samples, dtype)
    native, tensors = prepare(model, samples)
    onnx, compilations = compile_to_onnx(native, tensors)
    if onnx is None:
        assert "thresholds" in compilations[0].failure
        return
    binding = OnnxBinding(open_session(onnx, where="test"), native.signature)
    rows = to_tensors(x, native.signature, columns=native.predictor.feature_names)
    expected, given = native.run(rows), binding.run(rows)
    for output, values in expected.items():
        np.testing.assert_allclose(given[output], values, atol=1e-5)


def test_a_float32_form_that_rounds_ids_says_what_it_failed():
    x, y = ids_and_labels()
    samples = x.copy()
    samples[:, 0] %= 1_000
    native, tensors = prepare(booster_on_ids(x, y), samples)
    onnx, (narrow, wide) = compile_to_onnx(native, tensors)
    assert "rows differ next to the model's thresholds" in narrow.failure
    assert onnx is not None
    assert wide.passed


def test_small_integers_stay_in_float32():
    x = as_frame(np.random.default_rng(1).integers(0, 10_000, (500, 2)), np.int64)
    model = HistGradientBoostingClassifier(max_iter=10).fit(x, x["id"].to_numpy() % 2)
    native, tensors = prepare(model, x)
    _, (only,) = compile_to_onnx(native, tensors)
    assert (only.precision, only.passed) == ("float32", True)


def test_integers_beyond_float32_need_float64_where_no_thresholds_are_read():
    x, _ = ids_and_labels()
    native, tensors = prepare(Ridge().fit(as_frame(x, np.int64), x[:, 1]), as_frame(x, np.int64))
    onnx, (narrow, wide) = compile_to_onnx(native, tensors)
    assert "integers beyond 2**24" in narrow.failure
    assert onnx is not None
    assert wide.passed
