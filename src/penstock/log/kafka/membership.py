"""Who a consumer is within its group, as a transaction has to prove it."""

from dataclasses import dataclass
from typing import Any

from penstock.log.records import TopicPartition

__all__ = ["KafkaMembership"]


@dataclass(frozen=True, kw_only=True)
class KafkaMembership:
    """`metadata` is the client's, of this generation of the group. The broker looks at that alone, and takes
    offsets of partitions that another member has, or for an empty group of anybody: so what the member has
    stands here.
    """

    group: str
    partitions: frozenset[TopicPartition]
    metadata: Any
