from dataclasses import dataclass, replace

import pytest

from penstock.serving.batching.lane import ShapeKey
from penstock.serving.batching.queue import RELEASED_MAX, RESERVED_SHARE, BatchQueue


@dataclass(eq=False)
class Waiting:
    name: str
    rows: int = 1
    size_bytes: int = 10
    arrived_s: float = 0.0
    deadline_s: float = 100.0
    due_s: float | None = None
    shape_key: ShapeKey = ()
    criticality: int = 2
    abandoned: bool = False
    queued: bool = False
    waiting_since_s: float = 0.0

    def __post_init__(self) -> None:
        self.waiting_since_s = max(self.waiting_since_s, self.arrived_s)
        if self.due_s is None:
            self.due_s = min(self.arrived_s + 50.0, self.deadline_s)

    def split(self, rows: int) -> "Waiting":
        size_bytes = self.size_bytes * rows // self.rows
        part = replace(self, rows=rows, size_bytes=size_bytes, queued=False)
        self.rows -= rows
        self.size_bytes -= size_bytes
        return part


def filled(
    *requests: Waiting, rows_max: int = 1000, bytes_max: int = 10_000, splits: bool = True
) -> BatchQueue[Waiting]:
    queue: BatchQueue[Waiting] = BatchQueue(rows_max=rows_max, bytes_max=bytes_max, splits=splits)
    for request in requests:
        assert queue.offer(request)
    return queue


def names(requests: list[Waiting]) -> str:
    return "".join(request.name for request in requests)


def test_empty() -> None:
    queue = filled()
    assert queue.first() is None
    assert queue.take(0.0, 10) == ([], [])
    assert queue.take_expired(1e9) == []
    assert queue.first_deadline_s() == float("inf")
    assert len(queue) == queue.rows == 0


def test_bounds_in_rows_and_bytes() -> None:
    queue = filled(Waiting("a", rows=6), rows_max=10)
    assert not queue.offer(Waiting("b", rows=5))
    assert queue.offer(Waiting("c", rows=4))
    assert not queue.offer(Waiting("d", rows=1))
    assert queue.statistics().refused == 2
    queue = filled(Waiting("a", size_bytes=60, criticality=1), bytes_max=100)
    assert not queue.offer(Waiting("b", size_bytes=41, criticality=1))
    assert queue.offer(Waiting("c", size_bytes=40, criticality=1))
    assert (queue.statistics().size_bytes, queue.rows, len(queue)) == (100, 2, 2)


@pytest.mark.parametrize("bounds", [{"rows_max": 1600}, {"bytes_max": 16_000}])
def test_who_may_wait_for_long_cannot_fill_the_queue_for_who_is_more_important(bounds: dict[str, int]) -> None:
    queue: BatchQueue[Waiting] = BatchQueue(**({"rows_max": 1 << 30, "bytes_max": 1 << 30} | bounds))
    taken = []
    for criticality in (4, 3, 2, 1):
        assert not queue.full(criticality)
        many = [Waiting("a", criticality=criticality, deadline_s=1e9) for _ in range(1700)]
        taken.append(sum([queue.offer(each) for each in many]))
        assert queue.full(criticality)
    assert taken == [1300, 100, 100, 100]


def test_an_empty_queue_takes_any_request() -> None:
    queue = filled(Waiting("a", rows=99, size_bytes=10**9), rows_max=10, bytes_max=10)
    assert not queue.offer(Waiting("b"))
    for _ in range(10):
        assert names(queue.take(0.0, 10)[0]) == "a"
    assert queue.offer(Waiting("b"))


def test_however_much_one_request_holds_who_is_more_important_finds_room() -> None:
    queue = filled(Waiting("a", rows=5000, size_bytes=10**6, criticality=3), rows_max=160, bytes_max=1600)
    assert (queue.full(3), queue.full(2), queue.full(1)) == (True, False, False)
    assert not queue.offer(Waiting("b", criticality=3))
    assert queue.offer(Waiting("c", rows=10, criticality=2))
    assert not queue.offer(Waiting("d", criticality=2))
    assert queue.offer(Waiting("e", rows=10, criticality=1))
    while queue.rows:
        queue.take(0.0, 100)
    assert not queue.full(4)
    assert queue.statistics().size_bytes == 0


def test_first_come_first_served_up_to_the_limit() -> None:
    queue = filled(*(Waiting(name, rows=3, arrived_s=place) for place, name in enumerate("abcd")))
    assert names(queue.take(0.0, 7)[0]) == "ab"
    assert [(each.name, each.rows) for each in queue.take(0.0, 2)[0]] == [("c", 2)]
    assert [(each.name, each.rows) for each in queue.take(0.0, 100)[0]] == [("c", 1), ("d", 3)]


def test_where_nothing_is_split_one_request_always_goes_whole() -> None:
    queue = filled(*(Waiting(name, rows=3, arrived_s=place) for place, name in enumerate("ab")), splits=False)
    assert [(each.name, each.rows) for each in queue.take(0.0, 2)[0]] == [("a", 3)]
    queue = filled(Waiting("a", rows=2), Waiting("b", rows=9), Waiting("c", rows=1), splits=False)
    assert names(queue.take(0.0, 4)[0]) == "a"  # b has its turn, and nobody overtakes it
    assert names(queue.take(0.0, 4)[0]) == "b"


def test_a_request_with_more_rows_than_a_batch_goes_in_parts_and_fills_what_room_there_is() -> None:
    queue = filled(Waiting("a", rows=2), Waiting("b", rows=9, size_bytes=90), Waiting("c", rows=1))
    taken = [[(each.name, each.rows) for each in queue.take(0.0, 4)[0]] for _ in range(3)]
    assert taken == [[("a", 2), ("b", 2)], [("b", 4)], [("b", 3), ("c", 1)]]
    assert (queue.rows, len(queue), queue.statistics().size_bytes) == (0, 0, 0)


def test_up_to_the_size_of_a_part_a_request_runs_whole() -> None:
    queue = filled(Waiting("a", rows=6), Waiting("b", rows=17), Waiting("c", rows=1))
    taken = [[(each.name, each.rows) for each in queue.take(0.0, 4, part_rows=8)[0]] for _ in range(4)]
    assert taken == [[("a", 6)], [("b", 8)], [("b", 8)], [("b", 1), ("c", 1)]]


def test_of_a_request_in_parts_only_the_next_one_stands_ahead_of_others() -> None:
    queue = filled(Waiting("a", rows=2), Waiting("b", rows=100))
    assert queue.rows_ahead(2) == 102, "no part has a size before a batch was formed"
    assert queue.take(0.0, 4)[0]
    assert queue.rows_ahead(2) == 4
    assert queue.offer(Waiting("c", rows=3))
    assert queue.offer(Waiting("d", rows=50, criticality=1))
    assert (queue.rows_ahead(1), queue.rows_ahead(2)) == (4, 11)
    while queue.rows:
        queue.take(0.0, 4)
    assert (queue.rows_ahead(4), queue._beyond) == (0, {})


def test_between_its_parts_go_those_that_are_more_important_or_due_sooner() -> None:
    queue = filled(Waiting("a", rows=8, due_s=20.0, criticality=3))
    assert names(queue.take(0.0, 2)[0]) == "a"
    assert queue.offer(Waiting("b", rows=2, criticality=1))
    assert queue.offer(Waiting("c", rows=2, due_s=10.0, criticality=3))
    assert queue.offer(Waiting("d", rows=2, due_s=30.0, criticality=3))
    assert [names(queue.take(0.0, 2)[0]) for _ in range(6)] == ["b", "c", "a", "a", "a", "d"]


def test_parts_that_could_not_all_be_in_time_are_not_begun_while_there_are_others() -> None:
    queue = filled(Waiting("a", rows=100, deadline_s=3.0), Waiting("b", deadline_s=9.0))
    batch, expired = queue.take(0.0, 10, 1.0, 0.1)
    assert (names(batch), names(expired)) == ("b", "a")
    queue = filled(Waiting("a", rows=100, deadline_s=3.0))
    batch, expired = queue.take(0.0, 10, 1.0, 0.1)  # only running shows whether the prediction is right
    assert ([each.rows for each in batch], expired, queue.rows) == ([10], [], 90)


def test_shapes_run_apart_and_the_oldest_goes_first() -> None:
    wide, narrow = ((4,),), ((2,),)
    queue = filled(
        Waiting("a", shape_key=wide, arrived_s=1),
        Waiting("b", shape_key=narrow, arrived_s=2),
        Waiting("c", shape_key=wide, arrived_s=3),
        Waiting("d", shape_key=narrow, arrived_s=2.5),
    )
    assert [names(queue.take(5.0, 10)[0]) for _ in range(2)] == ["ac", "bd"]


def test_the_more_important_goes_first_whenever_it_came() -> None:
    queue = filled(
        Waiting("a", criticality=3, arrived_s=1),
        Waiting("b", criticality=2, arrived_s=2),
        Waiting("c", criticality=1, arrived_s=3),
        Waiting("d", criticality=2, arrived_s=4),
    )
    assert [names(queue.take(5.0, 1)[0]) for _ in range(4)] == ["c", "b", "d", "a"]


def test_what_has_room_left_in_a_batch_is_filled_from_the_classes_below() -> None:
    queue = filled(
        Waiting("a", criticality=3, arrived_s=1, rows=2),
        Waiting("b", criticality=1, arrived_s=2),
        Waiting("c", criticality=2, arrived_s=3, shape_key=((7,),)),
        Waiting("d", criticality=4, arrived_s=3),
    )
    assert names(queue.take(5.0, 3)[0]) == "ba"
    assert names(queue.take(5.0, 3)[0]) == "c"  # another shape runs apart, however little there is of it
    assert names(queue.take(5.0, 3)[0]) == "d"


def test_within_a_class_what_is_due_first_goes_first() -> None:
    queue = filled(
        Waiting("a", due_s=9.0), Waiting("b", due_s=7.0), Waiting("c", due_s=8.0), Waiting("d", due_s=7.0)
    )
    assert names(queue.take(0.0, 10)[0]) == "bdca"


def test_what_is_overdue_yields_to_what_can_be_in_time_the_newest_first() -> None:
    queue = filled(
        Waiting("a", due_s=1.0), Waiting("b", due_s=2.0), Waiting("c", due_s=9.0), Waiting("d", due_s=8.0)
    )
    assert names(queue.take(3.0, 3)[0]) == "dcb"
    assert names(queue.take(3.0, 3)[0]) == "a"


@pytest.mark.parametrize("rows_limit", [1, 4, 16])
def test_every_class_gets_its_share_however_much_waits_above_it(rows_limit: int) -> None:
    queue = filled()
    taken = {1: 0, 2: 0, 4: 0}
    for _ in range(2000):
        for criticality in taken:
            while queue.rows_ahead(criticality) - queue.rows_ahead(criticality - 1) < 40:
                assert queue.offer(Waiting("x", criticality=criticality))
        for request in queue.take(0.0, rows_limit)[0]:
            taken[request.criticality] += 1
    total = sum(taken.values())
    assert total == 2000 * rows_limit
    for criticality in (2, 4):
        assert 0.9 * RESERVED_SHARE <= taken[criticality] / total <= 1.1 * RESERVED_SHARE


def test_the_rows_ahead_are_those_of_its_class_and_above() -> None:
    queue = filled(Waiting("a", criticality=1, rows=2), Waiting("b", criticality=3, rows=5))
    assert [queue.rows_ahead(criticality) for criticality in (1, 2, 3, 4)] == [2, 2, 7, 7]


def test_expired_and_abandoned_requests_do_not_run() -> None:
    queue = filled(
        Waiting("a", deadline_s=5.0),
        Waiting("b", deadline_s=5.1),
        Waiting("c", abandoned=True),
        Waiting("d", deadline_s=1.0, abandoned=True),
        Waiting("e", deadline_s=9.0),
    )
    batch, expired = queue.take(5.0, 10)
    assert (names(batch), names(expired)) == ("be", "a")
    assert queue.statistics().expired == 1
    assert (len(queue), queue.rows, queue.statistics().size_bytes) == (0, 0, 0)


def test_a_shape_of_which_nothing_is_left_gives_way() -> None:
    queue = filled(
        Waiting("a", shape_key=((1,),), abandoned=True), Waiting("b", shape_key=((2,),), arrived_s=1)
    )
    assert names(queue.take(5.0, 10)[0]) == "b"


def test_expiry_while_nothing_is_taken() -> None:
    queue = filled(
        Waiting("a", deadline_s=2.0, shape_key=((1,),)),
        Waiting("b", deadline_s=9.0),
        Waiting("c", deadline_s=3.0),
        Waiting("d", deadline_s=3.0, abandoned=True),
    )
    assert queue.first_deadline_s() == 2.0
    assert sorted(names(queue.take_expired(3.0))) == ["a", "c"]
    assert queue.first_deadline_s() == 9.0
    oldest = queue.first()
    assert oldest is not None
    assert oldest.name == "b"
    assert names(queue.take_expired(9.0)) == "b"
    assert queue.first() is None


@pytest.mark.parametrize("limit", [0, 1])
def test_a_batch_is_never_empty_for_want_of_a_limit(limit: int) -> None:
    assert names(filled(Waiting("a"), Waiting("b")).take(0.0, limit)[0]) == "a"


def test_what_was_released_takes_no_room_and_is_never_taken():
    gone = Waiting("gone", rows=850)
    queue = filled(gone, Waiting("kept", rows=50))
    assert not queue.offer(Waiting("new", rows=100))
    gone.abandoned = True
    queue.release(gone)
    queue.release(gone)
    assert queue.rows == 50
    assert queue.offer(Waiting("new", rows=100))
    batch, expired = queue.take(0.0, 1000)
    assert [request.name for request in batch] == ["kept", "new"]
    assert expired == []
    assert (queue.rows, len(queue)) == (0, 0)


def test_entries_of_callers_that_are_gone_do_not_pile_up():
    queue = filled(Waiting("kept"))
    for _ in range(10 * RELEASED_MAX):
        gone = Waiting("gone", abandoned=True)
        assert queue.offer(gone)
        queue.release(gone)
    assert len(queue) <= RELEASED_MAX + 2
    assert queue.rows == 1


def test_what_could_only_be_late_is_expired_where_others_can_be_in_time():
    queue = filled(Waiting("late", deadline_s=1.0), Waiting("good", deadline_s=5.0))
    batch, expired = queue.take(0.5, 10, service_s=1.0)
    assert [request.name for request in batch] == ["good"]
    assert [request.name for request in expired] == ["late"]


def test_somebody_always_runs_so_that_a_wrong_service_time_is_found_out():
    queue = filled(Waiting("first", deadline_s=1.0), Waiting("second", deadline_s=1.0))
    batch, expired = queue.take(0.5, 10, service_s=9.0)
    assert [request.name for request in batch] == ["second"]
    assert [request.name for request in expired] == ["first"]


def test_what_is_long_overdue_is_given_up_while_others_can_be_in_time() -> None:
    queue = filled(Waiting("a", arrived_s=0.0, due_s=1.0), Waiting("b", arrived_s=1.0, due_s=1.9))
    for name in "cd":
        assert queue.offer(Waiting(name, arrived_s=1.5, due_s=9.0))
    batch, expired = queue.take(2.0, 1)
    assert (names(batch), names(expired)) == ("c", "a")
    assert [names(queue.take(2.1, 1)[0]) for _ in range(3)] == ["d", "b", ""]
    assert (len(queue), queue.rows, queue.statistics().expired) == (0, 0, 1)
