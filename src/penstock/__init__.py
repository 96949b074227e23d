"""Penstock serves and streams machine-learning models that keep their promises under any load."""

from penstock.app.declarations import App, Objective
from penstock.core.errors import InvalidInput, PenstockError
from penstock.core.signature import Signature, TensorSpec
from penstock.core.tensors import Tensors

__version__ = "0.1.0"

__all__ = ["App", "InvalidInput", "Objective", "PenstockError", "Signature", "TensorSpec", "Tensors"]
