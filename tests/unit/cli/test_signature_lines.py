"""What a push says of the types that it took from the sample rows."""

from datetime import UTC, datetime

import pytest

from penstock.cli.signature_lines import signature_lines, type_hints
from penstock.core.signature import Signature
from penstock.models.version import Artifact, Lineage, ModelVersion, RuntimeKind, SourceFormat


def version(inputs: dict[str, str], format_: SourceFormat = SourceFormat.PICKLE) -> ModelVersion:
    return ModelVersion(
        model="late",
        number=1,
        signature=Signature.of(inputs=inputs, outputs={"label": "INT64[-1]", "probabilities": "FP32[-1, 2]"}),
        runtime=RuntimeKind.ONNX,
        format=format_,
        source=Artifact(digest="0" * 64, size_bytes=1, filename="late.joblib"),
        compiled=None,
        golden=None,
        trusted_pickle=False,
        compilations=(),
        metrics={},
        parameters={},
        lineage=Lineage(),
        creator="ann",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        digest="0" * 64,
    )


def test_names_stand_by_their_type() -> None:
    lines = list(signature_lines(version({"age": "INT64[-1]", "income": "FP64?[-1]", "kids": "INT64[-1]"})))
    assert lines == [
        "takes INT64[-1]: age, kids",
        "takes FP64?[-1]: income",
        "gives INT64[-1]: label",
        "gives FP32[-1, 2]: probabilities",
    ]


def test_many_names_are_counted() -> None:
    (takes, *_) = signature_lines(version({f"f{number}": "FP32[-1]" for number in range(300)}))
    assert takes == "takes FP32[-1]: f0, f1, f2, f3, f4, f5, f6, f7 and 292 more"


@pytest.mark.parametrize("integer", ["INT64", "INT32", "UINT8"])
def test_whole_numbers_of_the_sample_rows_are_told(integer: str) -> None:
    (hint,) = type_hints(version({"age": f"{integer}[-1]", "income": "FP64[-1]"}))
    assert hint.startswith("hint: age: whole numbers alone")
    assert "41.0 in a CSV" in hint


def test_no_hint_where_the_types_are_no_surprise() -> None:
    assert not list(type_hints(version({"x": "FP32[-1, 30]", "name": "STRING[-1]", "is": "BOOL[-1]"})))
    assert not list(type_hints(version({"age": "INT64[-1]"}, SourceFormat.ONNX)))
