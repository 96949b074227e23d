"""The encoding done by hand against protobuf's own."""

import pytest
from google.protobuf.internal import encoder
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.errors import InvalidInput, TooLarge
from penstock.serving.protocols.grpc.libraries import load_messages
from penstock.serving.protocols.grpc.wire import FIELDS_MAX, field, split_field, varint

MESSAGES = load_messages()
RAW_INPUTS = 7


@given(st.integers(0, 2**64 - 1))
def test_varints_are_protobufs(number: int) -> None:
    assert varint(number) == encoder._VarintBytes(number)


@given(st.binary(max_size=300), st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
def test_fields_are_read_by_protobuf(raw: bytes, text: str) -> None:
    read = MESSAGES.ModelInferRequest.FromString(field(3, text.encode()) + field(7, raw))
    assert (read.id, list(read.raw_input_contents)) == (text, [raw])


@given(st.lists(st.binary(max_size=200), max_size=5), st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5))
def test_split_gives_what_protobuf_reads(raws: list[bytes], shape: list[int]) -> None:
    message = MESSAGES.ModelInferRequest(model_name="late", id="7", raw_input_contents=raws)
    message.inputs.add(name="x", datatype="FP32", shape=shape)
    message.parameters["timeout"].int64_param = -5
    rest, contents = split_field(message.SerializeToString(), RAW_INPUTS)
    assert contents == raws
    message.ClearField("raw_input_contents")
    assert MESSAGES.ModelInferRequest.FromString(rest) == message


def test_fixed_fields_are_passed_over() -> None:
    fixed = varint(9 << 3 | 5) + b"1234" + varint(10 << 3 | 1) + b"12345678" + varint(11 << 3) + varint(300)
    assert split_field(fixed + field(7, b"x") + fixed, 7) == (fixed + fixed, [b"x"])


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (b"\x3a\x05abc", "passes its end"),
        (b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "passes its end"),
        (b"\xff" * 12, "a number without an end"),
        (b"\x80", "a number without an end"),
        (b"\x0b", "kind 3"),
        (b"\x4d12", "passes its end"),
    ],
)
def test_what_is_no_protobuf(message: bytes, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        split_field(message, 7)


def test_fields_are_bounded() -> None:
    split_field(b"\x2a\x00" * FIELDS_MAX, 7)
    with pytest.raises(TooLarge, match="more than"):
        split_field(b"\x2a\x00" * (FIELDS_MAX + 1), 7)
