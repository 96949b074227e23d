import pytest

from penstock.core.errors import ConfigurationError
from penstock.core.tensors import DataType
from penstock.features.view import Feature, FeatureView, KeyColumn, encode_keys

ORIGIN = KeyColumn(name="origin", datatype=DataType.STRING)
COUNT = Feature(name="count", datatype=DataType.INT64, default=0)


def view(keys=(ORIGIN,), features=(COUNT,)) -> FeatureView:
    return FeatureView(name="congestion", keys=keys, features=features, topic="app.congestion.features")


@pytest.mark.parametrize(
    ("keys", "features", "said"),
    [
        ((), (COUNT,), "has no key"),
        ((ORIGIN,), (), "has no features"),
        ((KeyColumn(name="origin", datatype=DataType.FP64),), (COUNT,), "'origin' is of FP64"),
        ((ORIGIN,), (Feature(name="name", datatype=DataType.STRING, default=0),), "'name' is of STRING"),
        ((ORIGIN,), (COUNT, COUNT), "two columns 'count'"),
        (
            (ORIGIN,),
            tuple(Feature(name=f"f{number}", datatype=DataType.FP64, default=0.0) for number in range(64)),
            "has 64 features",
        ),
    ],
)
def test_what_cannot_be_a_view_is_told(keys, features, said):
    with pytest.raises(ConfigurationError, match=said):
        view(keys, features)


def test_names_its_columns_the_key_first():
    assert view().names == ("origin", "count")


def test_keys_are_equal_bytes_for_equal_values_alone():
    pairs = [("a", "bc"), ("ab", "c"), ("a", "bc"), (1, "1"), ("1", 1), (None, ""), (True, 1), (1, True)]

    encoded = encode_keys(list(zip(*pairs, strict=True)))

    assert encoded[0] == encoded[2]
    assert len(set(encoded)) == len(pairs) - 1
