import numpy as np
import pytest

from penstock.core.errors import InvalidInput
from penstock.core.signature import Signature, TensorSpec
from penstock.core.tensors import DataType
from penstock.serving.features.casting import cast, fits, fitted, is_castable, is_narrow

NUMBERS = [each for each in DataType if not each.is_object]
COLUMNS = {
    DataType.FP64: np.array([0.0, -0.0, 1.5, np.nan, np.inf, 1e300, -65505.0, 3.4e38]),
    DataType.INT64: np.array([0, 1, -1, 127, 128, -129, 255, 256, 2**31, 2**32, 2**63 - 1, -(2**63)]),
    DataType.BOOL: np.array([True, False]),
}


@pytest.mark.parametrize("feature", COLUMNS)
@pytest.mark.parametrize("given", list(DataType))
def test_kinds_go_into_kinds_that_hold_them(feature, given):
    """The oracle is numpy's own order of kinds."""
    kinds = {"b": 0, "i": 1, "u": 1, "f": 2}
    wider = kinds[feature.numpy.kind] <= kinds.get(given.numpy.kind, -1)
    assert is_castable(feature, given) is (feature is given or (wider and given is not DataType.BOOL))


@pytest.mark.parametrize("feature", COLUMNS)
@pytest.mark.parametrize("given", NUMBERS)
@pytest.mark.parametrize("nan", [False, True])
def test_what_fits_is_what_the_signature_takes_and_what_is_the_same_number(feature, given, nan):
    if not is_castable(feature, given) or (nan and not given.is_float):
        return
    spec = TensorSpec(name="x", datatype=given, shape=(-1, 1), nan=nan)
    signature = Signature(inputs=(spec,), outputs=(spec,))
    column = COLUMNS[feature]
    fitting = fits(column, spec)
    assert is_narrow(feature, spec) or fitting.all()
    for value, good in zip(column, fitting, strict=True):
        one = cast(np.array([value]), spec)
        assert one.shape == (1, 1)
        taken = True
        try:
            signature.conform({"x": one})
        except InvalidInput:
            taken = False
        exact = given.is_float or int(one[0, 0]) == int(value)
        assert bool(good) is (taken and exact), (value, one)


def test_only_categories_that_the_model_knows_fit():
    spec = TensorSpec(name="x", datatype=DataType.INT32, shape=(-1,), categories=(1, 7))

    assert fits(np.array([1, 2, 7, -1]), spec).tolist() == [True, False, True, False]
    assert is_narrow(DataType.INT64, spec)


def test_what_does_not_fit_is_the_default_and_told_apart():
    spec = TensorSpec(name="x", datatype=DataType.INT8, shape=(-1,))

    column, misfit = fitted(np.array([1, 200, -129, 127]), spec, -1)

    assert (column.tolist(), misfit.tolist()) == ([1, -1, -1, 127], [False, True, True, False])
    assert fitted(np.array([1, 2]), spec, -1)[1].tolist() == [False, False]
