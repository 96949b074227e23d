import pytest

from penstock.core.errors import InvalidInput
from penstock.models.naming import Reference, check_alias, check_model_name


@pytest.mark.parametrize("name", ["late", "0", "a.b_c-d", "x" * 128])
def test_names_of_models(name: str) -> None:
    check_model_name(name)


@pytest.mark.parametrize("name", ["", "Late", "-late", "a/b", "a:1", "a@b", "late\n", "é", "x" * 129, "../x"])
def test_what_cannot_name_a_model_or_be_an_alias(name: str) -> None:
    with pytest.raises(InvalidInput, match="cannot name a model") as caught:
        check_model_name(name)
    assert caught.value.where == "model"
    assert caught.value.hint is not None
    assert len(caught.value.message) < 250
    with pytest.raises(InvalidInput, match="cannot be an alias"):
        check_alias(name)


def test_digits_alone_are_no_alias() -> None:
    check_alias("3rd")
    with pytest.raises(InvalidInput, match="cannot be an alias"):
        check_alias("3")


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("late", Reference(model="late")),
        ("late:3", Reference(model="late", number=3)),
        ("late@champion", Reference(model="late", alias="champion")),
    ],
)
def test_references_go_there_and_back(text: str, reference: Reference) -> None:
    assert Reference.parse(text) == reference
    assert reference.describe() == text


@pytest.mark.parametrize(
    "text", ["", ":3", "@champion", "late:", "late:0", "late:03", "late:-1", "late:champion", "late:9999999999",
             "late@", "late@3", "late:3@champion", "late@champion:3", "late:٣"]
)  # fmt: skip
def test_what_is_no_reference(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Reference.parse(text)
    assert caught.value.hint is not None
