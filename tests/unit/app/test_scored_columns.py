"""Columns of streams as a model's inputs."""

import numpy as np
import polars as pl
import pytest

from penstock.app.scored_columns import columns_of_input, fits, series_of, tensors_of
from penstock.core.errors import InvalidInput
from penstock.core.signature import Signature

OUTPUTS = {"y": "FP64[-1]"}


def conformed(frame: pl.DataFrame, named: dict | None = None, **inputs: str) -> dict[str, np.ndarray]:
    """The model takes it as it is."""
    signature = Signature.of(inputs=inputs, outputs=OUTPUTS)
    return signature.conform(tensors_of(frame, signature, named or {}))


def test_columns_become_inputs_of_the_models_types() -> None:
    frame = pl.DataFrame({"f": [1.5, 2.5], "i": [1, 2], "b": [True, False], "s": ["a", "é"]})

    tensors = conformed(frame, f="FP32[-1]", i="INT32[-1]", b="BOOL[-1]", s="STRING[-1]")

    assert tensors["f"].dtype == np.float32
    assert tensors["f"].tolist() == [1.5, 2.5]
    assert tensors["i"].dtype == np.int32
    assert tensors["i"].tolist() == [1, 2]
    assert tensors["b"].tolist() == [True, False]
    assert tensors["s"].tolist() == ["a", "é"]


def test_a_column_fits_an_input_of_one_column() -> None:
    assert conformed(pl.DataFrame({"x": [1.0, 2.0]}), x="FP64[-1, 1]")["x"].shape == (2, 1)


def test_several_columns_are_a_matrix() -> None:
    frame = pl.DataFrame({"a": [1, 2], "b": [3.0, 4.0]})

    assert conformed(frame, {"x": ["a", "b"]}, x="FP32[-1, 2]")["x"].tolist() == [[1, 3], [2, 4]]
    assert columns_of_input("x", {"x": ["a", "b"]}) == ["a", "b"]
    assert list(columns_of_input("x", {})) == ["x"]


def test_null_is_nan_where_the_model_has_a_place_for_it() -> None:
    tensors = conformed(pl.DataFrame({"x": [1.0, None]}), x="FP32?[-1]")

    assert np.isnan(tensors["x"][1])


@pytest.mark.parametrize(
    ("column", "spec", "said"),
    [
        (pl.Series([1.0, None]), "FP32[-1]", "column 'x', row 1: null"),
        (pl.Series([1, None]), "INT64[-1]", "column 'x', row 1: null"),
        (pl.Series(["a", None]), "STRING[-1]", "column 'x', row 1: null"),
        (pl.Series([1, 300]), "INT8[-1]", "does not fit input 'x'"),
        (pl.Series([-1]), "UINT64[-1]", "does not fit input 'x'"),
    ],
)
def test_values_that_the_model_has_no_place_for_are_told(column: pl.Series, spec: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        conformed(column.alias("x").to_frame(), x=spec)


@pytest.mark.parametrize(
    ("dtype", "spec", "fit"),
    [
        (pl.Int64(), "FP32[-1]", True),
        (pl.Boolean(), "FP32[-1]", True),
        (pl.String(), "FP32[-1]", False),
        (pl.String(), "STRING[-1]", True),
        (pl.Categorical(), "STRING[-1]", True),
        (pl.Int64(), "STRING[-1]", False),
        (pl.Binary(), "BYTES[-1]", True),
        (pl.Datetime("ms"), "INT64[-1]", False),
    ],
)
def test_columns_of_another_kind_do_not_fit(dtype: pl.DataType, spec: str, fit: bool) -> None:
    signature = Signature.of(inputs={"x": spec}, outputs=OUTPUTS)

    assert fits(dtype, signature.inputs[0]) is fit


def test_outputs_become_columns() -> None:
    assert series_of("y", np.array([1.0, 2.0], np.float32)).dtype == pl.Float32
    assert series_of("y", np.array([[1], [2]])).to_list() == [1, 2]
    assert series_of("y", np.array([[1.0, 2.0], [3.0, 4.0]])).to_list() == [[1.0, 2.0], [3.0, 4.0]]
    assert series_of("y", np.array(["a", "b"], object)).dtype == pl.String
