"""Compiling native models to ONNX, behind a gate that compares both forms row by row."""

from penstock.models.compilation.compile import compile_to_onnx
from penstock.models.compilation.parity import TOLERANCE, compare, count_float32_rows

__all__ = ["TOLERANCE", "compare", "compile_to_onnx", "count_float32_rows"]
