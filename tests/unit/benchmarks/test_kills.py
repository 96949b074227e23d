"""Which failures after a kill are the killed worker's own."""

import pytest
from benchmarks.protocols.kills import Kill, judge
from benchmarks.protocols.record import Failure

KILL = Kill(
    pid=1,
    prompt=True,
    ports=frozenset({40001, 40002}),
    listed_s=10.0,
    killed_s=10.01,
    standing_s=10.9,
    until_s=12.0,
)


def failure(port: int, kind: str = "reset", opened_s: float = 5.0) -> Failure:
    return Failure(at_s=10.02, begun_s=10.0, opened_s=opened_s, kind=kind, status=0, port=port)


def test_one_request_on_each_of_its_connections_may_fail():
    assert judge(KILL, [failure(40001), failure(40002, "closed")]) == []


def test_a_connection_opened_after_they_were_listed_may_have_been_its():
    assert judge(KILL, [failure(40003, opened_s=10.005)]) == []


@pytest.mark.parametrize(
    "failures",
    [
        [failure(40003)],
        [failure(40001), failure(40001)],
        [failure(40001, "refused")],
        [failure(40001, "status")],
    ],
    ids=["another worker's", "twice", "refused", "an answer"],
)
def test_anything_else_is_wrong(failures):
    assert len(judge(KILL, failures)) == 1
