import numpy as np
import polars as pl
import pytest

from penstock.core.errors import InvalidInput
from penstock.core.signature import Signature
from penstock.models.samples import read_samples, to_tensors

FRAME = pl.DataFrame({"a": [1.5, 2.5, None], "n": [1, 2, 3], "s": ["x", "y", "z"], "b": [True, False, True]})
OUTPUTS = {"prediction": "FP32[-1]"}
COLUMNS = Signature.of(
    inputs={"a": "FP64?[-1]", "n": "INT64[-1]", "s": "STRING[-1]", "b": "BOOL[-1]"}, outputs=OUTPUTS
)
WRITERS = {
    ".parquet": FRAME.write_parquet,
    ".csv": FRAME.write_csv,
    ".json": FRAME.write_json,
    ".ndjson": FRAME.write_ndjson,
    ".arrow": FRAME.write_ipc,
}


@pytest.mark.parametrize("suffix", WRITERS)
def test_frames_are_read_and_become_tensors(suffix, tmp_path):
    path = tmp_path / f"rows{suffix}"
    WRITERS[suffix](path)
    tensors = to_tensors(read_samples(path), COLUMNS)
    np.testing.assert_array_equal(tensors["a"], [1.5, 2.5, np.nan])
    assert [array.dtype for array in tensors.values()] == [np.float64, np.int64, object, np.bool_]
    assert tensors["s"].tolist() == ["x", "y", "z"]


@pytest.mark.parametrize("suffix", [*WRITERS, ".npy", ".npz"])
def test_damaged_files_are_refused(suffix, tmp_path):
    path = tmp_path / f"rows{suffix}"
    path.write_bytes(b"\x93NUMPY\x01\x00PK\x03 not this")
    with pytest.raises(InvalidInput, match="rows"):
        to_tensors(read_samples(path), COLUMNS)


def test_arrays_are_read(tmp_path):
    rows = np.arange(6, dtype=np.float32).reshape(3, 2)
    np.save(tmp_path / "rows.npy", rows)
    np.savez(tmp_path / "rows.npz", rows=rows)
    signature = Signature.of(inputs={"x": "FP64[-1, 2]"}, outputs=OUTPUTS)
    for name in ("rows.npy", "rows.npz"):
        tensors = to_tensors(read_samples(tmp_path / name), signature)
        assert tensors["x"].dtype == np.float64
        np.testing.assert_array_equal(tensors["x"], rows)


def test_arrays_of_objects_are_not_unpickled(tmp_path):
    np.save(tmp_path / "rows.npy", np.array([["a", 1]], dtype=object), allow_pickle=True)
    with pytest.raises(InvalidInput, match="cannot be read") as raised:
        read_samples(tmp_path / "rows.npy")
    assert "astype" in raised.value.hint


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_what_numpy_has_not_written_is_not_taken_for_a_pickle(suffix, tmp_path):
    path = tmp_path / f"rows{suffix}"
    path.write_text("age,income\n")
    with pytest.raises(InvalidInput, match="has not written it") as raised:
        read_samples(path)
    assert "pickle" not in raised.value.message


def test_arrays_that_are_no_rows_are_told_with_their_names_and_shape(tmp_path):
    np.savez(tmp_path / "two.npz", rows=np.zeros((3, 2)), label=np.zeros(3))
    with pytest.raises(InvalidInput, match=r"holds 2 arrays \('rows', 'label'\)") as raised:
        read_samples(tmp_path / "two.npz")
    assert "numpy.savez(FILE, x=rows)" in raised.value.hint
    np.savez(tmp_path / "flat.npz", age=np.zeros(3))
    with pytest.raises(InvalidInput, match=r"its array 'age' has shape \[3\]") as raised:
        read_samples(tmp_path / "flat.npz")
    assert "reshape(-1, 1)" in raised.value.hint


def test_files_that_hold_no_rows(tmp_path):
    np.savez(tmp_path / "two.npz", a=np.zeros((1, 1)), b=np.zeros((1, 1)))
    np.save(tmp_path / "flat.npy", np.zeros(3))
    (tmp_path / "empty.csv").write_text("a,b\n")
    for name in ("two.npz", "flat.npy", "empty.csv", "missing.csv", "rows.xlsx"):
        with pytest.raises(InvalidInput, match=name.partition(".")[0]):
            read_samples(tmp_path / name)


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (FRAME.drop("n"), "no column 'n'"),
        (FRAME.with_columns(n=pl.lit("1")), "'n': String where the model takes INT64"),
        (FRAME.with_columns(n=pl.Series([1, None, 3])), "'n', row 1: missing"),
        (FRAME.with_columns(s=pl.Series(["x", "y", None])), "'s', row 2: missing"),
    ],
)
def test_columns_that_do_not_fit_are_named(frame, said):
    with pytest.raises(InvalidInput, match=said):
        to_tensors(frame, COLUMNS)


def test_a_frame_is_stacked_in_the_order_of_the_features():
    signature = Signature.of(inputs={"x": "FP64[-1, 2]"}, outputs=OUTPUTS)
    frame = pl.DataFrame({"label": ["no"], "b": [2], "a": [1.0]})
    np.testing.assert_array_equal(to_tensors(frame, signature, columns=("a", "b"))["x"], [[1.0, 2.0]])
    with pytest.raises(InvalidInput, match="3 columns"):
        to_tensors(frame, signature)


def test_an_array_does_not_fit_columns():
    with pytest.raises(InvalidInput, match="without column names"):
        to_tensors(np.zeros((2, 4)), COLUMNS)
