"""The float type in which a graph computes."""

import enum

from penstock.core.signature import Signature
from penstock.core.tensors import DataType

__all__ = ["Precision", "candidates"]

# What float32 holds exactly; everything else that is a number may lose digits in a float32 graph.
NARROW = frozenset(
    {
        DataType.BOOL,
        DataType.INT8,
        DataType.INT16,
        DataType.UINT8,
        DataType.UINT16,
        DataType.FP16,
        DataType.FP32,
    }
)


class Precision(enum.Enum):
    """All numbers of a graph are fed to it in this type."""

    FLOAT32 = "float32"
    FLOAT64 = "float64"


def candidates(signature: Signature, *, computes_before_trees: bool = False) -> tuple[Precision, ...]:
    """The precisions to try, the faster first; float64 only where an input holds more than float32 does.

    Where numbers are computed with before they reach trees, rows that fall right on a threshold cannot be
    made from the thresholds and tried, so the exact form comes first.
    """
    wide = any(spec.datatype not in NARROW and not spec.datatype.is_object for spec in signature.inputs)
    if not wide:
        return (Precision.FLOAT32,)
    if computes_before_trees:
        return Precision.FLOAT64, Precision.FLOAT32
    return Precision.FLOAT32, Precision.FLOAT64
