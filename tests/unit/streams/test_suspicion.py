"""Who is suspected after the end of a process, and when one is condemned."""

import numpy as np
import pytest

from penstock.log.records import Fetched, Records, TopicPartition
from penstock.streams.suspicion import (
    AccusedRows,
    Cause,
    Suspect,
    after_end,
    apart,
    cut,
    pieces,
    rows_after_end,
    suspect_of,
)

SOURCE = TopicPartition("events", 3)
WHY = Cause("crashed", "Aborted", told=True)
SILENT = Cause("crashed", "", told=False)


def fetched(begin: int, count: int, step: int = 1) -> Fetched:
    offsets = np.arange(begin, begin + count * step, step, dtype=np.int64)
    values = [str(offset).encode() for offset in offsets]
    records = Records(values=values, times_ms=offsets, keys=[b"k"] * count, headers=[None] * count)
    return Fetched(source=SOURCE, offsets=offsets, records=records, next_offset=begin + count * step)


def at(begin: int, end: int) -> Suspect:
    """As it is noted before anything is known."""
    return Suspect(topic="events", partition=3, begin=begin, end=end, count=end - begin, sure=True)


def ended(before: Suspect | None, *noted: Suspect, cause: Cause = WHY) -> Suspect:
    for each in noted:
        before = after_end(before, each, cause)
    assert before is not None
    return before


def test_pieces_of_records_that_are_no_suspects_are_whole() -> None:
    suspect = at(50, 60)
    assert [len(piece.records) for piece, _ in pieces(fetched(0, 10), suspect)] == [10]


def test_suspects_are_cut_into_parts_and_the_others_stay_together() -> None:
    parts = [(int(piece.offsets[0]), piece.next_offset) for piece, _ in pieces(fetched(0, 200), at(50, 146))]
    assert parts == [(0, 50), *((begin, begin + 3) for begin in range(50, 146, 3)), (146, 200)]


def test_a_cut_goes_on_where_the_next_begins() -> None:
    records = fetched(10, 4, 5)
    assert cut(records, 0, 2).next_offset == 20
    assert cut(records, 2, 4).next_offset == 30
    assert list(cut(records, 1, 3).records.values) == [b"15", b"20"]


def test_what_a_process_saw_itself_needs_no_second_time() -> None:
    assert suspect_of(fetched(7, 1), reason="raised", detail="ValueError").found
    assert not suspect_of(fetched(7, 2), reason="raised", detail="ValueError").found


def test_a_single_record_is_condemned_after_two_more_ends_alone() -> None:
    """The first may have been anything: somebody killed the process."""
    assert not ended(None, at(7, 8)).found
    assert not ended(None, at(7, 8), at(7, 8)).found
    suspect = ended(None, at(7, 8), at(7, 8), at(7, 8))
    assert suspect.found
    assert (suspect.ends, suspect.reason, suspect.detail) == (3, "crashed", "Aborted")


def test_ends_without_a_word_count_half() -> None:
    """They may be anybody's doing."""
    suspect = ended(None, *[at(7, 8)] * 4, cause=SILENT)
    assert not suspect.found
    assert ended(suspect, at(7, 8), cause=SILENT).found
    assert not ended(ended(None, *[at(7, 8)] * 2), at(7, 8), cause=SILENT).found


def test_one_that_was_found_among_others_likewise() -> None:
    assert not ended(None, at(0, 30), at(7, 8)).found
    assert ended(None, at(0, 30), at(7, 8), at(7, 8)).found


def test_ends_of_others_count_for_nobody() -> None:
    assert not ended(None, at(0, 30), at(7, 8), at(9, 10)).found
    assert not ended(None, at(0, 30), at(7, 8), at(3, 4), at(7, 8)).found
    assert ended(None, at(0, 30), at(7, 8), at(3, 4)).ends == 3


def test_an_end_of_more_of_them_says_less_than_what_is_known() -> None:
    """Of a worker that was at them before they were narrowed down, and only ended now."""
    narrow = ended(None, at(0, 60), at(0, 10))
    assert ended(narrow, at(0, 60)) == Suspect(
        **{**{name: getattr(narrow, name) for name in narrow.__struct_fields__}, "ends": 3}
    )


def test_parts_that_reach_over_a_gap_are_among_the_suspects() -> None:
    """Offsets may be missing, so that a part ends where the next record is."""
    before = ended(None, at(0, 30), at(7, 8))
    again = Suspect(topic="events", partition=3, begin=7, end=12, count=1)
    assert ended(before, again).found


@pytest.mark.parametrize(("count", "ends"), [(1, 3), (30, 3), (1000, 4), (1025, 4), (50_000, 5)])
def test_so_many_ends_are_needed(count: int, ends: int) -> None:
    """One on all of them, one a level, and one or two more that condemn."""
    records, culprit = fetched(0, count), count // 2
    suspect: Suspect | None = None
    for end in range(1, 20):
        for piece, found in pieces(records, suspect) if suspect is not None else [(records, False)]:
            if found:
                assert (int(piece.offsets[0]), len(piece.records)) == (culprit, 1)
                assert end - 1 == ends
                return
            if int(piece.offsets[0]) <= culprit < piece.next_offset:
                suspect = ended(suspect, suspect_of(piece, reason="", detail=""))
                break
    pytest.fail("it is never found")


def test_a_partition_with_suspects_goes_alone_in_turn_with_the_others() -> None:
    names = "abcd"
    several = [
        Fetched(source=TopicPartition(name, 0), offsets=each.offsets, records=each.records, next_offset=9)
        for name in names
        for each in [fetched(0, 0 if name == "d" else 3)]
    ]

    def worked_on(suspected: str, turn: int) -> tuple[str, str]:
        sources = {TopicPartition(name, 0) for name in suspected}
        worked, left = ("".join(each.source.topic for each in some) for some in apart(several, sources, turn))
        return worked, left

    assert worked_on("", 0) == ("abcd", "")
    assert [worked_on("b", turn) for turn in range(4)] == [("b", "ac"), ("acd", "b")] * 2
    assert [worked_on("ab", turn)[0] for turn in range(4)] == ["a", "cd", "b", "cd"]
    assert [worked_on("abc", turn)[0] for turn in (0, 2, 4)] == ["a", "b", "c"]
    assert worked_on("d", 0) == ("abcd", ""), "nothing of it is there"


def rows(*digests: str, step: str = "map 1", count: int = 9) -> AccusedRows:
    return AccusedRows(topic="events", partition=3, step=step, rows=digests, count=count)


def test_a_row_is_condemned_after_two_more_ends_alone_and_stays_so() -> None:
    accused = None
    for noted in (rows(), rows("a", "b"), rows("b")):
        accused = rows_after_end(accused, noted, WHY)
        assert not accused.culprits
    accused = rows_after_end(accused, rows("b"), WHY)
    assert accused.culprits == {"b": ("crashed", "Aborted")}
    accused = rows_after_end(accused, rows("c"), Cause("hung", "slow", told=True))
    assert accused.culprits == {"b": ("crashed", "Aborted")}
    accused = rows_after_end(
        rows_after_end(accused, rows("c"), WHY), rows("c"), Cause("hung", "slow", told=True)
    )
    assert accused.culprits == {"b": ("crashed", "Aborted"), "c": ("hung", "slow")}
    assert accused.ends == 7


def test_both_tell_what_they_are() -> None:
    assert str(ended(None, at(5, 25))) == "20 records from offset 5 suspected: crashed: Aborted"
    assert str(ended(None, at(5, 6), at(5, 6), at(5, 6))) == "record from offset 5 condemned: crashed: Aborted"
    assert "which is not known yet" in str(rows_after_end(None, rows(), WHY))
