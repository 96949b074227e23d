"""What a pool wants done."""

import msgspec

__all__ = ["Action", "End", "Kill", "Say", "Spawn"]


class Spawn(msgspec.Struct, frozen=True):
    """Start the process of worker `number`; events name it by `life`. It is of this generation of settings."""

    life: int
    number: int
    generation: int


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
