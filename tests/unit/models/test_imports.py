import subprocess
import sys

HEAVY = {
    "joblib",
    "lightgbm",
    "onnx",
    "onnxmltools",
    "onnxruntime",
    "pandas",
    "polars",
    "skl2onnx",
    "sklearn",
    "xgboost",
}
MODULES = "formats, native, signature_inference, onnx_io, onnx_signature, samples, compilation"


def test_importing_models_imports_no_library_that_only_some_need():
    program = f"import sys\nfrom penstock.models import {MODULES}\nprint(*sys.modules)"
    answered = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not HEAVY & set(answered.stdout.split())


def test_an_onnx_graph_is_served_without_the_libraries_of_its_maker(tmp_path):
    program = """
import sys
from penstock.models.onnx_io import open_session
from penstock.core.errors import InvalidInput
try:
    open_session(b"", where="nothing")
except InvalidInput:
    print(*sys.modules)
"""
    answered = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert HEAVY & set(answered.stdout.split()) == {"onnxruntime"}
