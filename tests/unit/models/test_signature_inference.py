import lightgbm as lgb
import numpy as np
import polars as pl
import pytest
import xgboost as xgb
from sklearn.cluster import KMeans
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from penstock.core.errors import InvalidInput
from penstock.core.tensors import DataType
from penstock.models.libraries import wrap_model
from penstock.models.samples import to_tensors
from penstock.models.signature_inference import infer_signature


def signature_of(model, samples=None):
    return infer_signature(wrap_model(model, where="model"), samples)


def described(specs):
    return {spec.name: spec.describe() for spec in specs}


def test_a_matrix_without_samples_is_float64(data):
    signature = signature_of(LogisticRegression().fit(data.matrix, data.letters))
    assert described(signature.inputs) == {"x": "FP64[-1, 5]"}
    assert described(signature.outputs) == {"label": "STRING[-1]", "probabilities": "FP32[-1, 3]"}
    assert signature.outputs[0].categories == ("a", "b", "c")


@pytest.mark.parametrize(("dtype", "expected"), [("f4", "FP32"), ("f8", "FP64"), ("i8", "FP64"), ("?", "FP64")])
def test_a_matrix_has_the_samples_type(data, dtype, expected):
    model = Ridge().fit(data.matrix, data.values)
    assert signature_of(model, data.matrix.astype(dtype)).inputs[0].datatype is DataType(expected)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (lambda data: data.binary, "INT64[-1]"),
        (lambda data: data.binary.astype(float), "INT64[-1]"),
        (lambda data: data.binary > 0, "BOOL[-1]"),
        (lambda data: data.letters, "STRING[-1]"),
        (lambda data: data.letters.astype(object), "STRING[-1]"),
    ],
)
def test_labels_have_the_type_of_the_classes(data, target, expected):
    signature = signature_of(LogisticRegression().fit(data.matrix, target(data)))
    assert signature.outputs[0].describe() == expected


def test_outputs_of_regressions_and_clusters(data):
    both = np.column_stack([data.values, data.binary])
    assert described(signature_of(Ridge().fit(data.matrix, both)).outputs) == {"prediction": "FP32[-1, 2]"}
    clusters = KMeans(2, n_init=1, random_state=0).fit(data.matrix)
    assert described(signature_of(clusters).outputs) == {"label": "INT64[-1]"}


def test_several_labels_at_once_are_refused(data):
    model = RandomForestClassifier(2).fit(data.matrix, np.column_stack([data.binary, data.binary]))
    with pytest.raises(InvalidInput, match="several labels at once"):
        signature_of(model)


FRAME = ["distance", "hour", "night", "carrier"]


def frame_model(encoder):
    transformer = make_column_transformer((encoder, ["carrier"]), remainder="passthrough")
    return make_pipeline(transformer, LogisticRegression(max_iter=2000))


def test_columns_have_the_samples_types_and_the_encoders_categories(flights):
    model = frame_model(OneHotEncoder()).fit(flights[FRAME], flights["late"])
    signature = signature_of(model, flights)
    assert described(signature.inputs) == {
        "distance": "FP64[-1]",
        "hour": "INT64[-1]",
        "night": "BOOL[-1]",
        "carrier": "STRING[-1]",
    }
    assert signature.inputs[3].categories == ("AA", "DL", "UA")


def test_columns_without_samples(flights):
    signature = signature_of(frame_model(OneHotEncoder()).fit(flights[FRAME], flights["late"]))
    assert described(signature.inputs)["carrier"] == "STRING[-1]"
    assert described(signature.inputs)["hour"] == "FP64[-1]"


@pytest.mark.parametrize(
    ("encoder", "categories"),
    [
        (OneHotEncoder(handle_unknown="ignore"), None),
        (OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), None),
        (OrdinalEncoder(), ("AA", "DL", "UA")),
        (make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder()), ("AA", "DL", "UA")),
    ],
)
def test_categories_are_listed_only_where_others_are_errors(flights, encoder, categories):
    signature = signature_of(frame_model(encoder).fit(flights[FRAME], flights["late"]), flights)
    assert signature.inputs[3].categories == categories


def test_whole_numbers_with_gaps_are_floats(flights):
    gaps = flights.with_columns(hour=pl.when(pl.col("hour") > 3).then("hour"))
    model = HistGradientBoostingClassifier(max_iter=2).fit(flights[["distance", "hour"]], flights["late"])
    assert signature_of(model, gaps).inputs[1].describe() == "FP64?[-1]"


def test_dates_are_refused_with_what_to_do(flights):
    model = LinearRegression().fit(flights[["hour"]], flights["delay"])
    dated = flights.with_columns(hour=pl.date(2013, 1, 1))
    with pytest.raises(InvalidInput, match="'hour': a model cannot be fed Date"):
        signature_of(model, dated)


def test_a_column_that_the_samples_lack(flights):
    model = LinearRegression().fit(flights[["hour"]], flights["delay"])
    with pytest.raises(InvalidInput, match="no column 'hour'"):
        signature_of(model, flights.drop("hour"))


@pytest.mark.parametrize(
    ("model", "has_place"),
    [
        (HistGradientBoostingClassifier(max_iter=2), True),
        (LogisticRegression(), False),
        (KNeighborsClassifier(), False),
        (make_pipeline(SimpleImputer(), LogisticRegression()), True),
        (make_pipeline(StandardScaler(), LogisticRegression()), False),
        (
            make_pipeline(
                make_column_transformer((SimpleImputer(), [0]), remainder="passthrough"), LogisticRegression()
            ),
            False,  # for the first column alone
        ),
    ],
)
def test_whether_nan_has_a_place_is_tried_out(model, has_place, data):
    assert signature_of(model.fit(data.matrix, data.binary), data.matrix).inputs[0].nan is has_place


def test_nan_is_tried_out_column_by_column(flights):
    transformer = make_column_transformer((SimpleImputer(), ["distance"]), ("passthrough", ["hour"]))
    numbers = flights[["distance", "hour"]].cast(pl.Float64)
    model = make_pipeline(transformer, LinearRegression()).fit(numbers, flights["delay"])
    assert described(signature_of(model, numbers).inputs) == {"distance": "FP64?[-1]", "hour": "FP64[-1]"}


def test_boosters_take_a_matrix_in_their_own_type_or_the_columns_that_they_name(data):
    booster = xgb.train({}, xgb.DMatrix(data.matrix, data.values, feature_names=list("abcde")), 2)
    assert described(signature_of(booster).inputs) == dict.fromkeys("abcde", "FP32?[-1]")
    booster = xgb.train({}, xgb.DMatrix(data.matrix, data.values), 2)
    assert described(signature_of(booster).inputs) == {"x": "FP32?[-1, 5]"}
    booster = lgb.train({"verbose": -1}, lgb.Dataset(data.matrix, data.values), 2)
    assert described(signature_of(booster).inputs) == {"x": "FP64?[-1, 5]"}


@pytest.mark.parametrize("objective", ["binary:hinge", "binary:logitraw", "multi:softmax"])
def test_objectives_without_probabilities_are_refused(objective, data):
    classes = {"num_class": 2} if objective.startswith("multi") else {}
    booster = xgb.train({"objective": objective, **classes}, xgb.DMatrix(data.matrix, data.binary), 2)
    with pytest.raises(InvalidInput, match=objective):
        signature_of(booster)


def test_nan_in_samples_that_has_no_place_is_said_where(data):
    holes = data.matrix.copy()
    holes[3, 2] = np.nan
    signature = signature_of(LogisticRegression().fit(data.matrix, data.binary), holes)
    with pytest.raises(InvalidInput, match="'x', row 3: the model has no place for nan"):
        to_tensors(holes, signature)
