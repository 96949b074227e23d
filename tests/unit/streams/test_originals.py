"""The events of letters are found where their topics have them still, however little the log gives at once."""

from typing import cast

import numpy as np
import pytest

from penstock.core.errors import NotFound
from penstock.log.port import Admin
from penstock.log.records import Fetched, Records, TopicPartition
from penstock.streams.dead_letters import GONE, DeadLetter
from penstock.streams.originals import Originals

BEGIN, END = 5, 5000


class Kept:
    """A topic of which offsets 5 to 4999 are there, but for those that end in 7; 300 records at a time."""

    reads = 0

    def read(self, source: TopicPartition, offset: int, *, records_max: int) -> Fetched:
        if source.topic != "events":
            raise NotFound(f"no {source}")
        self.reads += 1
        first = max(offset, BEGIN)
        offsets = np.arange(first, min(first + min(records_max, 300), END))
        offsets = offsets[offsets % 10 != 7]
        return Fetched(
            source=source,
            offsets=offsets,
            records=Records(
                values=[b"%d/%d" % (source.partition, each) for each in offsets],
                times_ms=offsets * 10,
                keys=[b"k%d" % each for each in offsets],
            ),
            next_offset=int(offsets[-1]) + 1 if len(offsets) else max(first, END),
        )


def letter(offset: int, topic: str = "events", row: bytes | None = b"{}") -> DeadLetter:
    return DeadLetter(
        source=TopicPartition(topic, offset % 2),
        offset=offset,
        time_ms=1,
        written_ms=2,
        reason="raised",
        detail="",
        value=b"row",
        key=None,
        stage="later",
        row=row,
    )


@pytest.mark.parametrize("step", [1, 13, 1999])
def test_events_are_found_by_their_offsets(step: int) -> None:
    kept = Kept()
    letters = [letter(offset) for offset in range(4999, -1, -step)]
    completed = Originals(cast("Admin", kept)).complete(letters)
    assert [each.offset for each in completed] == [each.offset for each in letters]
    for each in completed:
        if each.offset < BEGIN or each.offset % 10 == 7:
            assert (each.value, GONE in each.headers) == (b"row", True)
        else:
            assert each.value == b"%d/%d" % (each.source.partition, each.offset)
            assert (each.key, each.time_ms, each.row) == (b"k%d" % each.offset, each.offset * 10, b"{}")
    assert kept.reads < 50


def test_others_stay_as_they_are() -> None:
    letters = [letter(9, row=None), letter(9, "many"), letter(9, "nowhere")]
    first, second, third = Originals(cast("Admin", Kept()), frozenset({"many"})).complete(letters)
    assert [first, second] == letters[:2]
    assert GONE in third.headers
