"""What a topic can be, in whichever log."""

import re

from penstock.core.errors import InvalidInput, shown
from penstock.log.port import TopicSpec

__all__ = ["check_spec"]

NAME_LENGTH_MAX = 249
_NAME = re.compile(r"[A-Za-z0-9._-]+")
"""Kafka's rule, so that a name is good in either."""


def check_spec(spec: TopicSpec, partitions_max: int) -> None:
    """Raises `InvalidInput` for a spec that cannot be."""
    if not _NAME.fullmatch(spec.name) or len(spec.name) > NAME_LENGTH_MAX or spec.name in (".", ".."):
        raise InvalidInput(
            f"a topic cannot be called {shown(spec.name)}",
            where="name",
            hint=f"take letters, digits, '.', '_' and '-', {NAME_LENGTH_MAX} at most",
        )
    if not 1 <= spec.partitions <= partitions_max:
        raise InvalidInput(
            f"topic {spec.name} cannot have {spec.partitions} partitions",
            where="partitions",
            hint=f"take 1 to {partitions_max}",
        )
    for name, value in (("retention_s", spec.retention_s), ("retention_bytes", spec.retention_bytes)):
        if value is not None and not value > 0:
            raise InvalidInput(
                f"topic {spec.name}: {name} cannot be {value}", where=name, hint="None keeps everything"
            )
