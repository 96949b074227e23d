"""A stage as it is planned: what it reads, the steps that its frames take, and where results go.

A stage reads one topic; each of its partitions has state, changes and snapshots of its own. Steps form a tree:
each takes what comes out of a port of another, or of the source.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from penstock.streams.branching import Branches
from penstock.streams.decoding.formats import Format
from penstock.streams.intake import IntakeConfig
from penstock.streams.operator import OperatorConfig, TwoInputConfig
from penstock.streams.outputs import OutputConfig
from penstock.streams.transforming import Transform

__all__ = [
    "CLOSED",
    "LATE",
    "MAIN",
    "SOURCE",
    "UPDATES",
    "AnyStep",
    "BranchStep",
    "JoinStep",
    "Output",
    "Port",
    "StagePlan",
    "Step",
    "TransformStep",
    "is_made",
]

SOURCE = ""
"""What stands for the stage's source where a step is named."""
MAIN = ""
"""What a step makes of its frame; of the source, the events that are not late."""
CLOSED = "closed"
"""The windows that have closed."""
LATE = "late"
"""The source's events that came too late."""
UPDATES = "updates"
"""What the windows of keys come to from now on, of those keys that a frame has touched."""


@dataclass(frozen=True)
class Port:
    """Where frames come out: of a step, or of the source."""

    step: str = SOURCE
    name: str = MAIN


@dataclass(frozen=True, kw_only=True)
class Step:
    """An operator, by a name that is its own in the stage and stays when the app is started again."""

    name: str
    config: OperatorConfig
    after: Port


@dataclass(frozen=True, kw_only=True)
class TransformStep:
    """What keeps nothing from frame to frame, and is the same for all partitions."""

    name: str
    transform: Transform
    after: Port


@dataclass(frozen=True, kw_only=True)
class BranchStep:
    """Rows go on by the port that has the name of their branch."""

    name: str
    branches: Branches
    after: Port


@dataclass(frozen=True, kw_only=True)
class JoinStep:
    """An operator of two inputs."""

    name: str
    config: TwoInputConfig
    left: Port
    right: Port


AnyStep = Step | TransformStep | BranchStep | JoinStep


@dataclass(frozen=True, kw_only=True)
class Output:
    """Where the frames of a port go."""

    name: str
    config: OutputConfig
    after: Port


@dataclass(frozen=True, kw_only=True)
class StagePlan:
    """All that makes a partition of the stage. Steps stand after those whose frames they take.

    `internal`: its source is a topic between stages. `passing`: nobody needs what is committed of its source.
    `events_topic` is that of the events which its rows came of, in the format `events_form`: for a first stage
    its source.
    """

    name: str
    source: str
    partitions: int
    internal: bool
    passing: bool
    intake: IntakeConfig
    steps: tuple[AnyStep, ...]
    outputs: tuple[Output, ...]
    changes_topic: str
    events_topic: str
    events_form: Format


def is_made(port: Port, steps: Sequence[AnyStep]) -> bool:
    """Whether the rows there are none of the source's records: windows that closed or were updated, and what
    follows.
    """
    by_name = {step.name: step for step in steps}
    while (step := by_name.get(port.step)) is not None and not isinstance(step, JoinStep):
        if isinstance(step, Step) and port.name in (CLOSED, UPDATES):
            return True
        port = step.after
    return False
