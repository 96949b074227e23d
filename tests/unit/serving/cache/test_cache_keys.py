"""Keys: equal for what is equal bit for bit, and for nothing else. The oracle compares; it does not encode."""

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.errors import InvalidInput
from penstock.serving.cache.keys import KEY_BYTES, canonical, digest, tensors_parts

SECRET = b"s" * 32
NAN = struct.unpack("<d", b"\x01\0\0\0\0\0\xf8\x7f")[0]
OTHER_NAN = struct.unpack("<d", b"\x02\0\0\0\0\0\xf8\x7f")[0]


def same(one: Any, other: Any) -> bool:  # noqa: PLR0911 - a case each
    """Whether they are one value, type by type and bit by bit."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        if one.dtype != other.dtype or one.shape != other.shape:
            return False
        if one.dtype.kind == "O":
            return all(same(a, b) for a, b in zip(one.ravel().tolist(), other.ravel().tolist(), strict=True))
        flat, other_flat = (np.ascontiguousarray(each.ravel()).view(np.uint8) for each in (one, other))
        return bool(np.array_equal(flat, other_flat))
    if isinstance(one, dict):
        return len(one) == len(other) and all(
            same(a, b) and same(one[a], other[b]) for a, b in zip(one, other, strict=True)
        )
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, float):
        return struct.pack("<d", one) == struct.pack("<d", other)
    return bool(one == other)


# Few and small, so that two drawn apart are often near each other, and sometimes equal.
texts = st.sampled_from(["", "a", "b", "ab", "s", "\0", "\x01", "a\0", "ä", "\ud800", "\U00010000", "1"])
raws = st.sampled_from([b"", b"a", b"b", b"ab", b"s", b"\0", b"\xc3\xa4", b"a\0", b"1"])
floats = st.sampled_from([0.0, -0.0, 1.0, NAN, OTHER_NAN, float("inf")])
integers = st.sampled_from([0, 1, -1, 127, 128, -128, 255, 256, 1 << 80])
scalars = st.one_of(st.none(), st.booleans(), integers, floats, texts, raws)
shapes = st.sampled_from([(), (0,), (1,), (2,), (4,), (1, 2), (2, 1), (2, 2), (0, 2), (2, 0)])
dtypes = st.sampled_from(["<f4", "<f8", ">f8", "<i4", "<i8", "?", "u1", "<M8[s]", "<M8[ms]", "<U2", "S2"])


@st.composite
def arrays(draw: st.DrawFn) -> Any:
    shape, count = draw(shapes), 1
    for axis in shape:
        count *= axis
    if draw(st.booleans()):
        array = np.empty(count, dtype=object)
        array[:] = draw(st.lists(st.one_of(texts, raws), min_size=count, max_size=count))
    else:
        dtype = np.dtype(draw(dtypes))
        raw = draw(st.lists(st.sampled_from([0, 1]), min_size=count, max_size=count))
        array = np.array(raw).astype(dtype) if dtype.kind != "M" else np.array(raw, dtype="<i8").view(dtype)
    return np.asfortranarray(array.reshape(shape)) if draw(st.booleans()) else array.reshape(shape)


values = st.recursive(
    st.one_of(scalars, arrays(), st.sampled_from([np.float32(1), np.float64(1), np.int64(1), np.bool_(1)])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.one_of(texts, st.integers(0, 2)), inner, max_size=3),
    ),
    max_leaves=6,
)


@settings(max_examples=400, deadline=None)
@given(values, values)
def test_two_values_share_a_form_only_if_they_are_one(one: Any, other: Any) -> None:
    assert (canonical(one) == canonical(other)) is same(one, other)


names = st.sampled_from(["x", "y", "xy", "", "\0", "x<f4"])
tensor_sets = st.dictionaries(names, arrays(), max_size=3)
wanteds = st.one_of(st.none(), st.lists(names, max_size=2).map(tuple))


@settings(max_examples=400, deadline=None)
@given(tensor_sets, wanteds, tensor_sets, wanteds)
def test_two_requests_share_a_key_only_if_they_are_one(a: Any, a_wants: Any, b: Any, b_wants: Any) -> None:
    keys = [digest(SECRET, tensors_parts(*each)) for each in ((a, a_wants), (b, b_wants))]
    assert (keys[0] == keys[1]) is (same(a, b) and a_wants == b_wants)
    assert keys[0] == digest(SECRET, tensors_parts({n: each.copy() for n, each in a.items()}, a_wants))
    assert len(keys[0]) == KEY_BYTES


def objects(*elements: object) -> Any:
    array = np.empty(len(elements), dtype=object)
    array[:] = elements
    return array


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"x": np.zeros((2, 3))}, {"x": np.zeros((3, 2))}),
        ({"x": np.arange(6).reshape(2, 3)}, {"x": np.arange(6).reshape(2, 3).T}),
        ({"x": np.zeros(2), "y": np.zeros(3)}, {"x": np.zeros(3), "y": np.zeros(2)}),
        ({"x": np.zeros(2), "y": np.ones(2)}, {"y": np.zeros(2), "x": np.ones(2)}),
        ({"x": np.zeros(2, "f4")}, {"x": np.zeros(2, "i4")}),
        ({"x": np.array([0.0])}, {"x": np.array([-0.0])}),
        ({"x": np.array([NAN])}, {"x": np.array([OTHER_NAN])}),
        ({"x": objects("ab", "c")}, {"x": objects("a", "bc")}),
        ({"x": objects("a")}, {"x": objects(b"a")}),
        ({"x": objects("1")}, {"x": objects(1)}),
        ({"x": objects("as", "b")}, {"x": objects("a", "sb")}),
        ({"x": np.zeros(1, "<i8")}, {"x": np.zeros((1, 0), "<i8")}),
        ({"xy": np.zeros(1)}, {"x": np.zeros(1)}),
    ],
)
def test_what_is_near_is_apart(one: Any, other: Any) -> None:
    assert digest(SECRET, tensors_parts(one, None)) != digest(SECRET, tensors_parts(other, None))


def test_a_key_is_its_process_s_own() -> None:
    parts = tensors_parts({"x": np.zeros(3)}, None)
    assert digest(SECRET, parts) != digest(b"t" * 32, parts)


def test_memory_s_layout_does_not_count() -> None:
    array = np.arange(12.0).reshape(3, 4)
    for other in (np.asfortranarray(array), np.repeat(array, 2, axis=1)[:, ::2]):
        assert tensors_parts({"x": array}, None) == tensors_parts({"x": other}, None)


@pytest.mark.parametrize(
    "value",
    [
        object(),
        {1, 2},
        {"a": [object()]},
        np.zeros(2, dtype=[("a", "f4")]),
        np.zeros(1, dtype=[("a", "f4")])[0],
        objects(object()),
        1j,
        bytearray(b"a"),
    ],
)
def test_what_has_no_key(value: object) -> None:
    with pytest.raises(InvalidInput, match="has no key"):
        canonical(value)


def test_what_holds_itself_has_no_key() -> None:
    circle: list[object] = []
    circle.append(circle)
    with pytest.raises(InvalidInput, match="nested more than 32 deep"):
        canonical(circle)


def test_inputs_cannot_pass_for_the_end_of_a_name() -> None:
    """As they could if names were written without their lengths."""
    pack = struct.Struct("<Q").pack
    data = pack(3) + b"|u1" + pack(1) + pack(1) + b"z"
    head = pack(3) + b"|u1" + pack(1) + pack(len(data))
    one = {"x": np.frombuffer(data, np.uint8)}
    other = {"x" + head.decode(): np.frombuffer(b"z", np.uint8)}
    assert digest(SECRET, tensors_parts(one, None)) != digest(SECRET, tensors_parts(other, None))
