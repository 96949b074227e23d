"""Parameters of V2 requests: what means something here, and what must not be passed over in silence."""

from collections.abc import Mapping
from typing import Any

from penstock.core.errors import InvalidInput, shown

__all__ = [
    "NotOffered",
    "Parameters",
    "binary_size",
    "check_inference",
    "check_output",
    "check_tensor",
    "flag",
    "priority_of",
    "timeout_s",
    "version_of",
]

Parameters = Mapping[str, Any]

PRIORITY_LOWEST = 4
TIMEOUT_US_MAX = 1e18
_SEQUENCE = ("sequence_id", "sequence_start", "sequence_end")
_SHARED_MEMORY = "shared_memory_region"


class NotOffered(InvalidInput):
    """What the protocol knows and this server does not do."""


def timeout_s(parameters: Parameters) -> float | None:
    """V2's `timeout` is in microseconds; 0 means none, and so does what passes any patience."""
    timeout_us = parameters.get("timeout", 0)
    if isinstance(timeout_us, bool) or not isinstance(timeout_us, int | float) or not timeout_us >= 0:
        raise InvalidInput(
            f"parameter 'timeout' is {shown(timeout_us)}, not a number of microseconds", where="timeout"
        )
    return timeout_us / 1e6 if 0 < timeout_us < TIMEOUT_US_MAX else None


def priority_of(parameters: Parameters) -> int | None:
    """V2's `priority`: 1 is the highest, and what is lower than the lowest is the lowest; None for 0, V2's
    default, and for none.
    """
    priority = parameters.get("priority", 0)
    if isinstance(priority, bool) or not isinstance(priority, int) or priority < 0:
        raise InvalidInput(
            f"parameter 'priority' is {shown(priority)}, not a whole number from 0",
            where="priority",
            hint="1 is the highest, 0 the default",
        )
    return min(priority, PRIORITY_LOWEST) or None


def flag(parameters: Parameters, name: str, *, default: bool) -> bool:
    """A parameter that is true or false."""
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise InvalidInput(f"parameter {shown(name)} is {shown(value)}, not true or false", where=name)
    return value


def binary_size(parameters: Parameters, name: str) -> int | None:
    """How many raw bytes an input has; None: its data is in the JSON."""
    size = parameters.get("binary_data_size")
    if size is None:
        check_tensor(parameters, name)
        return None
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise InvalidInput(
            f"input {shown(name)}: binary_data_size is {shown(size)}, not a number of bytes", where=name
        )
    return size


def check_inference(parameters: Parameters) -> None:
    """Raises `NotOffered` for what a request counts on and would not get: state over several requests."""
    for name in _SEQUENCE:
        value = parameters.get(name)
        if value not in (None, 0, "", False):
            raise NotOffered(
                f"parameter {shown(name)} is {shown(value)}: sequences of requests are not supported",
                where=name,
                hint="leave it out; each request stands for itself",
            )


def check_output(parameters: Parameters, name: str) -> None:
    """Raises `NotOffered` for a form in which outputs are not given."""
    classes = parameters.get("classification")
    if classes not in (None, 0):
        raise NotOffered(
            f"output {shown(name)}: the parameter classification is not supported",
            where=name[:80],
            hint="ask for the output itself and take its highest values",
        )
    check_tensor(parameters, name)


def check_tensor(parameters: Parameters, name: str) -> None:
    """Raises `NotOffered` for a tensor that is to lie in shared memory."""
    if _SHARED_MEMORY in parameters:
        raise NotOffered(
            f"tensor {shown(name)}: shared memory is not supported",
            where=name[:80],
            hint="send tensors in the body, in binary where they are large",
        )


def version_of(parameters: Parameters, known: tuple[str, ...]) -> str | None:
    """The version that a load or unload picks, None for none. Raises `InvalidInput` for what is not `known`.

    `unload_dependents`, which Triton's clients always send, means nothing: no model here depends on another.
    """
    for name in parameters:
        if name not in known:
            raise InvalidInput(
                f"unknown parameter {shown(name)}",
                where=name[:80],
                hint=f"understood are {', '.join(known)}; what a model is made of comes from the registry",
            )
    version = parameters.get("version")
    if version is None:
        return None
    if isinstance(version, bool) or not isinstance(version, int | str) or version == "":
        raise InvalidInput(f"parameter 'version' is {shown(version)}, not a version", where="version")
    return str(version)
