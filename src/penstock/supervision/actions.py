"""What a pool wants done."""

import enum

import msgspec

__all__ = ["Action", "End", "Kill", "Role", "Say", "Spawn"]


class Role(enum.Enum):
    """What a worker process is for: answering requests, or streams."""

    SERVE = "worker"
    STREAM = "stream worker"


class Spawn(msgspec.Struct, frozen=True):
    """Start the process of worker `number`; events name it by `life`. It is of this generation of settings."""

    life: int
    number: int
    generation: int
    role: Role = Role.SERVE


class End(msgspec.Struct, frozen=True):
    """Tell it to drain and end."""

    life: int


class Kill(msgspec.Struct, frozen=True):
    """End it at once."""

    life: int


class Say(msgspec.Struct, frozen=True):
    """Tell a person. `error` says that it is no good news."""

    text: str
    error: bool = False


Action = Spawn | End | Kill | Say
