"""A stage's state as bytes: a snapshot of all of it, or what a batch has changed."""

import hashlib
from collections.abc import Mapping

import msgspec

from penstock.core.errors import ConfigurationError, CorruptState
from penstock.streams.operator import OperatorConfig, TwoInputConfig
from penstock.streams.plan import JoinStep, StagePlan, Step, TransformStep

__all__ = [
    "StageState",
    "begins_anew",
    "check_fingerprints",
    "encode_state",
    "fingerprint_of",
    "fingerprints_of",
    "next_offset_of",
    "read_state",
    "shape_of",
]

FORM = 1


class StageState(msgspec.Struct, array_like=True, kw_only=True):
    """A snapshot, or the changes of a batch: of the latter only what has any. Operators with what made them."""

    form: int = FORM
    anew: bool = False
    """What was before is not part of it."""
    next_offset: int | None
    intake: bytes
    steps: dict[str, tuple[str, bytes]]
    outlets: dict[str, bytes]
    effects: dict[str, list[str]]
    """The names of the last batch's, by output."""
    fingerprints: dict[str, str] = {}
    """What made each operator that has state, also where that has not changed."""


_decode = msgspec.msgpack.Decoder(StageState).decode


def encode_state(state: StageState) -> bytes:
    return msgspec.msgpack.encode(state)


def begins_anew(changes: bytes) -> bool:
    """Whether the changes are the first after a stage was begun anew. Raises `CorruptState`."""
    return read_state(changes, "a stage").anew


def next_offset_of(changes: bytes) -> int | None:
    """Where the partition went on after these changes. Raises `CorruptState`."""
    return read_state(changes, "a stage").next_offset


def read_state(content: bytes, whose: object) -> StageState:
    try:
        state = _decode(content)
    except msgspec.DecodeError as error:
        raise CorruptState(
            f"the state of {whose} cannot be read: {error}", hint="an older snapshot may be whole"
        ) from error
    if state.form != FORM:
        raise CorruptState(
            f"the state of {whose} has form {state.form}, this release reads {FORM}",
            hint="run the release that wrote it",
        )
    return state


def fingerprint_of(config: OperatorConfig | TwoInputConfig) -> str:
    """What an operator's state depends on, in short: what its config says of that, or all of it but its
    bounds.
    """
    said = getattr(config, "fingerprint", None)
    if said is None:
        values = {name: value for name, value in vars(config).items() if not name.endswith("_max")}
        said = f"{type(config).__name__} {values}"
    return hashlib.blake2b(said.encode(), digest_size=6).hexdigest()


def fingerprints_of(plan: StagePlan) -> dict[str, str]:
    """By the names of its operators."""
    return {step.name: fingerprint_of(step.config) for step in plan.steps if isinstance(step, Step | JoinStep)}


def shape_of(plan: StagePlan) -> str:
    """Its steps and outputs, in short: where they are others, so are the rows that they make."""
    steps = [
        f"{step.name} {type(step.transform if isinstance(step, TransformStep) else step).__name__}"
        for step in plan.steps
    ]
    said = (*steps, *sorted(fingerprints_of(plan).items()), *(output.name for output in plan.outputs))
    return hashlib.blake2b(repr(said).encode(), digest_size=6).hexdigest()


def check_fingerprints(stage: str, planned: Mapping[str, str], state: StageState) -> None:
    """That the operators which the state is of are those that are planned. Of those that are gone it goes.

    Raises `ConfigurationError`.
    """
    made_by = {**state.fingerprints, **{name: fingerprint for name, (fingerprint, _) in state.steps.items()}}
    for name, fingerprint in made_by.items():
        if planned.get(name, fingerprint) != fingerprint:
            raise ConfigurationError(
                f"stage {stage!r}: {name!r} was changed, and its state is of what it was before",
                hint="undo the change, or give it a new name (name=...) to let it begin anew",
            )
