"""Random models on random data: what passes the gate answers new rows as the library does."""

import numpy as np
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from penstock.models.compilation import compare, compile_to_onnx
from penstock.models.libraries import wrap_model
from penstock.models.native import NativeModel
from penstock.models.onnx_io import OnnxBinding, open_session
from penstock.models.samples import to_tensors
from penstock.models.signature_inference import infer_signature

MODELS = {
    "boosting": lambda seed: HistGradientBoostingRegressor(max_iter=8, random_state=seed),
    "forest": lambda seed: RandomForestClassifier(6, random_state=seed),
    "linear": lambda seed: LogisticRegression(max_iter=200),
    "scaled forest": lambda seed: make_pipeline(StandardScaler(), RandomForestClassifier(6, random_state=seed)),
}


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    name=st.sampled_from(sorted(MODELS)),
    seed=st.integers(0, 10_000),
    features=st.integers(1, 6),
    decimals=st.integers(0, 6),
    scale=st.sampled_from([1e-3, 1.0, 1e6]),
)
def test_what_passes_answers_new_rows_alike(name, seed, features, decimals, scale):
    rng = np.random.default_rng(seed)
    rows = np.round(rng.normal(size=(400, features)), decimals) * scale
    target = (rows[:, 0] + rng.normal(size=400) * scale / 4 > 0).astype(np.int64)
    model = MODELS[name](seed).fit(rows[:200], np.r_[0, 1, target[2:200]])
    predictor = wrap_model(model, where="model")
    native = NativeModel(predictor, infer_signature(predictor, rows))
    onnx, _ = compile_to_onnx(native, to_tensors(rows[:200], native.signature))
    assume(onnx is not None)  # a few fall right on thresholds in every form, and are served natively
    new = {"x": rows[200:]}
    answers = OnnxBinding(open_session(onnx, where="test"), native.signature).run(new)
    assert compare(native.run(new), answers).passed


@given(
    expected=st.lists(st.floats(1e-9, 1e3), min_size=1, max_size=30),
    place=st.integers(0, 29),
    factor=st.sampled_from([1e-7, 1e-6, 1e-4, 1e-2]),
)
def test_exactly_the_rows_that_were_moved_are_counted(expected, place, factor):
    native = np.array(expected)
    scale = max(abs(native[place % len(native)]), np.median(native))
    moved = native.copy()
    moved[place % len(native)] += factor * scale
    parity = compare({"prediction": native}, {"prediction": moved})
    assert parity.values_differ == int(factor > 1e-5)
