"""The port that every runtime implements."""

from collections.abc import Callable, Iterator
from typing import Protocol, TypeAlias

from penstock.core.signature import Signature
from penstock.core.tensors import Tensors

__all__ = ["Examine", "Runtime"]


class Runtime(Protocol):
    """Executes one version. It is called by one thread at a time and blocks that thread."""

    @property
    def signature(self) -> Signature: ...

    def run(self, tensors: Tensors, timeout_s: float) -> Tensors:
        """Outputs for conformed inputs, with as many rows.

        Raises `InvalidInput` when the model refuses values that its signature could not rule out,
        `ModelFailed` when it breaks or answers against its signature, `DeadlineExceeded` when it was
        stopped because `timeout_s` passed. A runtime that cannot be stopped ignores `timeout_s`.
        """
        ...

    @property
    def fault(self) -> str | None:
        """Why it cannot run now, None where it can. May be asked by any thread."""
        ...

    @property
    def memory_bytes(self) -> int:
        """About how much memory it holds. May be asked by any thread."""
        ...

    def revive(self) -> None:
        """Starts anew what is down, where its time has come. Blocks. Never raises."""
        ...

    def rest(self, inputs: Tensors) -> None:
        """Frees what it keeps for runs to come, as there was none for a while. It may run `inputs` for that.
        Never raises.
        """
        ...

    def close(self) -> None:
        """Frees what it holds; the runtime is not used after. Never raises."""
        ...


Examine: TypeAlias = Callable[[Runtime], Iterator[None] | None]
"""Tries a runtime and raises what is wrong with it: at once, or in pieces, between which others may run."""
