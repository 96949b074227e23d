"""A request to a model, whatever protocol it came by."""

from collections.abc import Mapping
from typing import NamedTuple

from penstock.core.calling import DEFAULT_CRITICALITY
from penstock.core.tensors import Array

__all__ = ["Inference"]


class Inference(NamedTuple):
    """Inputs as they came off the wire, and what their caller said of them. Times are monotonic seconds.

    `deadline_s` is when nobody wants the answer any more; `due_s` by when it should be there, which is earlier
    where the caller named no deadline of its own. `caller` is who asks, as far as that is known. `wanted` are
    the outputs to give (None: all). `admitted`: whether it was decided already that it is taken on; `weighed`:
    whether its rows were known then.
    `falls_back`: whether another rung of the model's ladder may answer, which is not what one wants who names a
    version.
    `retry`: its caller has asked before.
    `prediction` is what the answer is known by where it is recorded, and `first_row` the number that its first
    row has there.
    """

    tensors: Mapping[str, Array]
    arrived_s: float
    deadline_s: float
    due_s: float | None = None
    criticality: int = DEFAULT_CRITICALITY
    caller: bytes = b""
    wanted: tuple[str, ...] | None = None
    admitted: bool = False
    weighed: bool = False
    falls_back: bool = False
    retry: bool = False
    prediction: str = ""
    first_row: int = 0
