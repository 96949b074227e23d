"""Bodies of files, and URLs that cannot stand in a request."""

from pathlib import Path

import pytest

from penstock.core.errors import InvalidInput
from penstock.core.rng import seeded
from penstock.core.signature import TensorSpec
from penstock.core.tensors import DataType
from penstock.drills.surge.target import body_of_file, make_bodies, parse_target

MESSAGE = b'{"inputs": []}'


@pytest.mark.parametrize(
    ("content", "json_bytes"),
    [
        (MESSAGE, None),
        (b"\n " + MESSAGE + b"\r\n", None),
        (MESSAGE + b"\x00\x01", len(MESSAGE)),
        # Space to Python, the bytes of a tensor here.
        (MESSAGE + b"\x85\xa0\x1c\x0b", len(MESSAGE)),
        (b"\n " + MESSAGE + b"\xff", len(MESSAGE) + 2),
    ],
)
def test_where_the_json_of_a_body_ends(tmp_path: Path, content: bytes, json_bytes: int | None) -> None:
    file = tmp_path / "body"
    file.write_bytes(content)
    body = body_of_file(file)
    assert (body.content, body.json_bytes) == (content, json_bytes)


@pytest.mark.parametrize("path", ["/ä", "/a b", "/\x7f"])
def test_a_path_that_no_request_line_can_hold(path: str) -> None:
    with pytest.raises(InvalidInput, match="path"):
        parse_target(f"http://127.0.0.1:8000{path}", "m", version=None, allow_remote=False)


def test_as_many_bodies_as_asked_and_no_more_than_can_be_held() -> None:
    inputs = (TensorSpec(name="x", datatype=DataType.FP64, shape=(-1, 8)),)
    bodies = make_bodies(inputs, seeded(1), count=500, rows=2, binary=True)
    assert len({body.content for body in bodies}) == 500
    with pytest.raises(InvalidInput, match="bodies"):
        make_bodies(inputs, seeded(1), count=100, rows=100_000, binary=True)
