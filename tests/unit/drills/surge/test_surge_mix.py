"""Classes times tenants, by the product of their weights; keys stay unseen."""

import pytest

from penstock.core.errors import InvalidInput
from penstock.drills.surge.mix import make_mix


def test_the_product_of_the_weights() -> None:
    mix = make_mix({"CRITICAL": "1", "SHEDDABLE": "3"}, {"acme": "2", "bolt": "1"}, {"acme": "s3cret"})
    assert {(kind.criticality, kind.tenant): kind.weight for kind in mix} == {
        ("CRITICAL", "acme"): 2,
        ("CRITICAL", "bolt"): 1,
        ("SHEDDABLE", "acme"): 6,
        ("SHEDDABLE", "bolt"): 3,
    }
    assert [kind.api_key for kind in mix] == ["s3cret", "bolt", "s3cret", "bolt"]
    assert "s3cret" not in repr(mix)


def test_without_any_it_is_the_default_class_of_nobody() -> None:
    (kind,) = make_mix(None, None)
    assert (kind.criticality, kind.tenant, kind.api_key) == ("CRITICAL", "", "")


@pytest.mark.parametrize(
    ("classes", "tenants", "keys"),
    [
        ({"URGENT": "1"}, None, None),
        ({"CRITICAL": "0"}, None, None),
        ({"CRITICAL": "nan"}, None, None),
        ({"CRITICAL": "many"}, None, None),
        (None, {"a\r\nx-evil: 1": "1"}, None),
        (None, {"acme": "1"}, {"bolt": "key"}),
        (None, {"acme": "1"}, {"acme": "a\r\nb"}),
        (None, {f"t{number}": "1" for number in range(65)}, None),
    ],
)
def test_nonsense_is_refused(
    classes: dict[str, str] | None, tenants: dict[str, str] | None, keys: dict[str, str] | None
) -> None:
    with pytest.raises(InvalidInput):
        make_mix(classes, tenants, keys)
