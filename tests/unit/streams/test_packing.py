import zlib

import numpy as np
import pytest

from penstock.core.errors import CorruptState
from penstock.streams.packing import pack, unpack

ARRAYS = {
    "steps": np.array([3, -4, 1 << 62]),
    "sums": np.array([[0.5, -0.0], [np.inf, np.nan]]),
    "flags": np.array([True, False, True]),
    "registers": np.arange(5, dtype=np.uint8),
    "nothing": np.zeros(0, np.int32),
}


def test_what_is_packed_comes_back() -> None:
    header, arrays = unpack(pack({"of": "x", "counts": [1, 2], "none": None}, ARRAYS))
    assert header == {"of": "x", "counts": [1, 2], "none": None}
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        assert arrays[name].shape == array.shape
        assert arrays[name].tobytes() == array.tobytes()


def test_arrays_in_any_layout_come_back_in_order() -> None:
    strided = np.arange(12, dtype=">i8").reshape(3, 4)[:, ::2]
    _, arrays = unpack(pack({}, {"a": strided}))
    np.testing.assert_array_equal(arrays["a"], strided)


def test_every_cut_is_seen() -> None:
    packed = pack({"of": "x"}, ARRAYS)
    for length in range(len(packed)):
        with pytest.raises(CorruptState):
            unpack(packed[:length])
    with pytest.raises(CorruptState):
        unpack(packed + b"\0")


def test_every_changed_byte_is_seen() -> None:
    packed = pack({"of": "x"}, ARRAYS)
    for at in range(len(packed)):
        changed = bytearray(packed)
        changed[at] ^= 0x10
        with pytest.raises(CorruptState):
            unpack(bytes(changed))


def checked(packed: bytearray) -> bytes:
    """With a checksum that is right."""
    packed[4:8] = zlib.crc32(packed[8:]).to_bytes(4, "little")
    return bytes(packed)


def test_other_bytes_are_refused() -> None:
    with pytest.raises(CorruptState, match="starts with"):
        unpack(b"\x80\x04" + bytes(40))
    packed = bytearray(pack({}, {"a": np.arange(3)}))
    at = packed.index(b"<i8")
    packed[at : at + 3] = b"|O8"
    with pytest.raises(CorruptState, match="described"):
        unpack(checked(packed))
    with pytest.raises(CorruptState, match="too many"):
        unpack(checked(bytearray(pack({}, {"a": np.arange(3)}) + b"\0")))
    with pytest.raises(CorruptState, match="cut off in its array"):
        unpack(checked(bytearray(pack({}, {"a": np.arange(3)})[:-1])))
