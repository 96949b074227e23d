"""The queue that keeps answers: its bound, its accounts, and whom it keeps."""

from bisect import bisect_left
from collections import OrderedDict
from itertools import accumulate
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.serving.cache.s3_fifo import CHANCES_MAX, ENTRY_SHARE_MAX, Entry, S3Fifo

BYTES_MAX = 10_000


def entry(value: int, size_bytes: int = 100, stored_s: float = 0.0, until_s: float = 1e9) -> Entry[int]:
    return Entry(value, size_bytes, stored_s, until_s)


steps = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "get", "discard"]),
        st.integers(0, 60),
        st.integers(1, 1200),
        st.integers(0, 3),
    ),
    max_size=300,
)


@settings(max_examples=150, deadline=None)
@given(steps)
def test_it_stays_within_its_bytes_and_gives_what_was_put_last(steps: list[tuple[str, int, int, int]]) -> None:
    queue: S3Fifo[int] = S3Fifo(BYTES_MAX)
    last: dict[bytes, Entry[int]] = {}
    now_s = 0.0
    for number, (what, name, size_bytes, passed_s) in enumerate(steps):
        key, now_s = b"%d" % name, now_s + passed_s
        match what:
            case "put":
                last.pop(key, None)
                new = entry(number, size_bytes, now_s, now_s + 10)
                if queue.put(key, new, now_s):
                    last[key] = new
                assert (size_bytes <= ENTRY_SHARE_MAX * BYTES_MAX) is (key in last)
                if key in last:
                    assert queue.get(key) is new, "what is put is there, whatever had to go"
            case "get":
                assert queue.get(key) in (None, last.get(key))
            case _:
                queue.discard(key)
                last.pop(key, None)
                assert queue.get(key) is None
        kept = [each for key in last if (each := queue.get(key)) is not None]
        assert len(kept) == len(queue)
        held_bytes = sum(each.size_bytes for each in kept)
        assert held_bytes <= queue.size_bytes <= BYTES_MAX
        assert queue.statistics().entries == len(kept)


def test_what_is_asked_once_does_not_push_out_what_is_asked_often() -> None:
    queue: S3Fifo[int] = S3Fifo(BYTES_MAX)
    often = [b"often%d" % number for number in range(20)]
    for key in often:
        queue.put(key, entry(1), 0.0)
        queue.get(key)
        queue.get(key)
    for number in range(5000):
        queue.put(b"once%d" % number, entry(2), 0.0)
        if number % 20 == 0:
            for key in often:
                queue.get(key)
    assert all(queue.get(key) is not None for key in often)
    assert queue.statistics().evicted > 4000
    assert queue.size_bytes > 100 * len(queue), "keys that are remembered count"


def test_in_the_main_queue_the_unused_goes_first() -> None:
    queue: S3Fifo[int] = S3Fifo(BYTES_MAX)
    for number in range(20):
        queue.put(b"%d" % number, entry(number, 500), 0.0)
        queue.get(b"%d" % number)
        queue.get(b"%d" % number)
    queue.put(b"first", entry(0, 500), 0.0)
    assert queue.get(b"0") is None
    queue.get(b"1")
    queue.put(b"second", entry(0, 500), 0.0)
    assert queue.get(b"1") is not None
    assert queue.get(b"2") is None


def test_what_comes_back_soon_after_it_left_stays() -> None:
    queue: S3Fifo[int] = S3Fifo(BYTES_MAX)
    for number in range(150):
        queue.put(b"%d" % number, entry(1), 0.0)
    back = next(b"%d" % number for number in reversed(range(150)) if queue.get(b"%d" % number) is None)
    queue.put(back, entry(2), 0.0)
    for number in range(150, 300):
        queue.put(b"%d" % number, entry(1), 0.0)
    kept = queue.get(back)
    assert kept is not None
    assert kept.value == 2


def test_what_is_over_leaves_without_being_asked_for() -> None:
    queue: S3Fifo[int] = S3Fifo(1_000_000)
    for number in range(100):
        queue.put(b"old%d" % number, entry(1, until_s=10.0), 0.0)
    for number in range(100):
        queue.put(b"new%d" % number, entry(1), 20.0)
    assert len(queue) == 100
    assert queue.statistics().evicted == 0, "nobody had to make room"


def test_one_put_does_not_go_through_all_that_was_used() -> None:
    """Whoever asks for all of it thrice would stop the event loop for as long as there are entries."""
    queue: S3Fifo[int] = S3Fifo(1_000_000)
    kept = [entry(number) for number in range(9000)]
    for number, each in enumerate(kept):
        queue.put(b"%d" % number, each, 0.0)
        for _ in range(3):
            queue.get(b"%d" % number)
    for number in range(2000):
        for each in kept if number == 1500 else []:
            each.uses = 3  # as three who ask for it make it
        before = [each.uses for each in kept]
        queue.put(b"new%d" % number, new := entry(number), 0.0)
        kept.append(new)
        queue.get(b"new%d" % number)
        queue.get(b"new%d" % number)
        assert sum(one != each.uses for one, each in zip(before, kept, strict=False)) <= CHANCES_MAX
    assert queue.statistics().evicted > 1000
    assert queue.size_bytes <= 1_000_000


def test_what_is_put_anew_keeps_its_place() -> None:
    """Those that are asked often are put anew whenever their time is over."""
    queue: S3Fifo[int] = S3Fifo(BYTES_MAX)
    for number in range(100):
        queue.put(b"%d" % number, entry(1), 0.0)
    queue.get(b"0")
    queue.get(b"0")
    for number in range(100, 120):
        queue.put(b"%d" % number, entry(1), 0.0)
    queue.put(b"0", entry(2), 1.0)
    queue.get(b"118")
    queue.get(b"118")
    queue.put(b"118", entry(2), 1.0)
    queue.put(b"119", entry(2), 1.0)
    for number in range(200, 400):
        queue.put(b"%d" % number, entry(1), 1.0)
    kept = queue.get(b"0")
    assert kept is not None, "it was in the main queue, and there it stays"
    assert kept.value == 2
    assert queue.get(b"118") is not None, "it was used while it was in the small one"
    assert queue.get(b"119") is None, "it was in the small one, which has moved on"


def test_its_hit_ratio_is_above_that_of_least_recently_used() -> None:
    """On Zipf's law, which popularity follows, with a scan through it. The oracle is an OrderedDict."""
    draw = Random(7)
    keys = 5000
    weights = list(accumulate(1 / (rank + 1) ** 0.9 for rank in range(keys)))
    queue: S3Fifo[int] = S3Fifo(50_000)
    recent: OrderedDict[bytes, None] = OrderedDict()
    hits = {"queue": 0, "recent": 0}
    for number in range(60_000):
        rank = bisect_left(weights, draw.random() * weights[-1])
        key = b"%d" % (rank if number % 4 else 1_000_000 + number)
        if queue.get(key) is not None:
            hits["queue"] += 1
        else:
            queue.put(key, entry(rank), 0.0)
        if key in recent:
            hits["recent"] += 1
            recent.move_to_end(key)
        else:
            recent[key] = None
            if len(recent) > 500:
                recent.popitem(last=False)
    assert hits["queue"] > 1.1 * hits["recent"]
