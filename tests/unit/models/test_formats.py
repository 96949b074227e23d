import hashlib
import os
import pickle

import joblib
import lightgbm as lgb
import numpy as np
import pytest
import xgboost as xgb
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.preprocessing import StandardScaler

from penstock.core.errors import CorruptArtifact, InvalidInput, UntrustedArtifact
from penstock.core.signature import Signature
from penstock.models.formats import detect_format, open_native, read_verified
from penstock.models.version import SourceFormat


@pytest.fixture(scope="module")
def files(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("files")
    booster = lgb.train({"objective": "binary", "verbose": -1}, lgb.Dataset(data.matrix, data.binary), 10)
    booster.save_model(folder / "lightgbm.txt")
    booster = xgb.train({"objective": "binary:logistic"}, xgb.DMatrix(data.matrix, data.binary), 10)
    booster.save_model(folder / "xgboost.json")
    booster.save_model(folder / "xgboost.ubj")
    model = LogisticRegression().fit(data.matrix, data.binary)
    joblib.dump(model, folder / "model.joblib")
    joblib.dump(model, folder / "packed.joblib", compress=3)
    (folder / "model.pkl").write_bytes(pickle.dumps(model))
    return folder


KINDS = {
    "lightgbm.txt": SourceFormat.LIGHTGBM,
    "xgboost.json": SourceFormat.XGBOOST,
    "xgboost.ubj": SourceFormat.XGBOOST,
    "model.joblib": SourceFormat.PICKLE,
    "packed.joblib": SourceFormat.PICKLE,
    "model.pkl": SourceFormat.PICKLE,
}


@pytest.mark.parametrize("name", KINDS)
def test_a_file_is_told_by_what_it_holds(files, name, tmp_path):
    assert detect_format(files / name) is KINDS[name]
    renamed = tmp_path / "artifact"  # as stored: without a suffix
    renamed.write_bytes((files / name).read_bytes())
    assert detect_format(renamed) is KINDS[name]


def test_a_pickle_under_another_name_is_still_a_pickle(files, tmp_path):
    disguised = tmp_path / "model.onnx"
    disguised.write_bytes((files / "model.pkl").read_bytes())
    assert detect_format(disguised) is SourceFormat.PICKLE


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_opens_and_answers(files, name, data):
    native = open_native(files / name, KINDS[name], trust_pickle=True)
    rows = data.matrix[:50].astype(native.signature.inputs[0].datatype.numpy)
    outputs = native.run({"x": rows})
    assert (outputs["label"] == data.binary[:50]).mean() > 0.8
    assert outputs["probabilities"].shape == (50, 2)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_a_truncated_file_is_refused(files, name, share, tmp_path):
    content = (files / name).read_bytes()
    damaged = tmp_path / name
    damaged.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InvalidInput) as caught:
        open_native(damaged, KINDS[name], trust_pickle=True)
    assert str(damaged) in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("old", ["leaf_value=", "num_leaves=", "Tree=3", "left_child=", "decision_type="])
def test_damage_that_would_end_lightgbms_process_is_refused(files, old, tmp_path):
    damaged = tmp_path / "lightgbm.txt"
    damaged.write_text((files / "lightgbm.txt").read_text().replace(old, old[:-2] + "x" + old[-1]))
    with pytest.raises(InvalidInput, match="cannot be opened as a lightgbm model"):
        open_native(damaged, SourceFormat.LIGHTGBM, trust_pickle=False)


class Trap:
    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_no_byte_of_an_untrusted_pickle_is_unpickled(tmp_path):
    path = tmp_path / "trap.pkl"
    path.write_bytes(pickle.dumps(Trap(str(tmp_path / "sprung"))))
    with pytest.raises(UntrustedArtifact) as caught:
        open_native(path, detect_format(path), trust_pickle=False)
    assert "--trust-pickle" in caught.value.hint
    assert not (tmp_path / "sprung").exists()
    with pytest.raises(InvalidInput):
        open_native(path, SourceFormat.PICKLE, trust_pickle=True)
    assert (tmp_path / "sprung").exists()  # so it was a trap


def test_an_object_that_is_no_model(tmp_path):
    path = tmp_path / "settings.pkl"
    path.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(InvalidInput, match="holds a dict, not a model"):
        open_native(path, SourceFormat.PICKLE, trust_pickle=True)


def test_a_transformer_and_an_estimator_that_is_not_fitted(tmp_path, data):
    path = tmp_path / "model.joblib"
    joblib.dump(StandardScaler().fit(data.matrix), path)
    with pytest.raises(InvalidInput, match=r"StandardScaler has no predict\(\)"):
        open_native(path, SourceFormat.PICKLE, trust_pickle=True)
    joblib.dump(LinearRegression(), path)
    with pytest.raises(InvalidInput, match="not a fitted estimator"):
        open_native(path, SourceFormat.PICKLE, trust_pickle=True)


def test_a_library_that_is_not_installed_is_named(tmp_path):
    path = tmp_path / "model.pkl"
    path.write_bytes(b"\x80\x04cno_such_library\nModel\n.")
    with pytest.raises(InvalidInput, match="needs the library 'no_such_library'") as caught:
        open_native(path, SourceFormat.PICKLE, trust_pickle=True)
    assert "pip install no_such_library" in caught.value.hint


def test_code_that_is_gone_is_named(tmp_path):
    path = tmp_path / "model.pkl"
    path.write_bytes(b"\x80\x04csklearn.linear_model\nNoSuchModel\n.")
    with pytest.raises(InvalidInput, match="NoSuchModel"):
        open_native(path, SourceFormat.PICKLE, trust_pickle=True)


@pytest.mark.parametrize(
    ("content", "said"), [(b"", "is empty"), (b"hello", "not a model file of a known kind")]
)
def test_files_of_no_known_kind(tmp_path, content, said):
    path = tmp_path / "model.bin"
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match=said):
        detect_format(path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InvalidInput, match="no such file"):
        detect_format(tmp_path / "model.onnx")


def test_a_declared_signature_that_is_not_the_models(files):
    declared = Signature.of(inputs={"x": "FP64[-1, 7]"}, outputs={"label": "INT64[-1]"})
    with pytest.raises(InvalidInput, match="has 7 columns, the model takes 5"):
        open_native(files / "model.pkl", SourceFormat.PICKLE, trust_pickle=True, signature=declared)


def test_a_declared_signature_stands(files):
    declared = Signature.of(inputs={"features": "FP32[-1, 5]"}, outputs={"probabilities": "FP64[-1, 2]"})
    native = open_native(files / "model.pkl", SourceFormat.PICKLE, trust_pickle=True, signature=declared)
    outputs = native.run({"features": np.zeros((1, 5), dtype=np.float32)})
    assert {name: output.dtype for name, output in outputs.items()} == {"probabilities": np.float64}


@pytest.mark.parametrize("name", KINDS)
def test_only_the_bytes_with_the_digest_are_opened(files, name):
    digest = hashlib.sha256((files / name).read_bytes()).hexdigest()
    assert open_native(files / name, KINDS[name], trust_pickle=True, digest=digest).signature.inputs
    with pytest.raises(CorruptArtifact, match=f"is not the file that was pushed: its SHA-256 is {digest}"):
        open_native(files / name, KINDS[name], trust_pickle=True, digest="0" * 64)


def test_a_pickle_with_another_digest_is_not_unpickled(tmp_path):
    path, marker = tmp_path / "model.pkl", tmp_path / "ran"
    path.write_bytes(pickle.dumps(_Runs(str(marker))))
    with pytest.raises(CorruptArtifact):
        open_native(path, SourceFormat.PICKLE, trust_pickle=True, digest="0" * 64)
    assert not marker.exists()


class _Runs:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_a_file_that_cannot_be_read_is_corrupt(tmp_path):
    with pytest.raises(CorruptArtifact, match="cannot be read: No such file") as raised:
        read_verified(tmp_path / "gone", "0" * 64)
    assert raised.value.hint is not None
