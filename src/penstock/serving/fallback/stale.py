"""Where a ladder asks for answers that the model gave before."""

from typing import NamedTuple, Protocol

from penstock.core.tensors import Tensors
from penstock.serving.inference import Inference

__all__ = ["Stale", "StaleAnswers"]


class Stale(NamedTuple):
    """The outputs that version `version` gave to the same inputs."""

    tensors: Tensors
    version: str


class StaleAnswers(Protocol):
    """Keeps answers for longer than they are fresh. In the event loop; does not block."""

    def stale(self, model: str, inference: Inference, max_age_s: float) -> Stale | None:
        """The newest answer of any version of the model to the same inputs and wanted outputs, given no more
        than `max_age_s` ago; None where there is none. The inputs are conformed.
        """
        ...
