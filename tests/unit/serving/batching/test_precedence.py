import pytest

from penstock.serving.batching.precedence import Precedence


def fed(rows_a_second: dict[int, int], seconds: int) -> Precedence:
    precedence = Precedence()
    for tenth in range(10 * seconds):
        precedence.update(tenth / 10, row_s=0.001)
        for criticality, rows in rows_a_second.items():
            precedence.offered(criticality, rows // 10)
    return precedence


def test_a_wait_is_longer_by_what_the_more_important_take() -> None:
    precedence = fed({1: 100, 2: 200, 4: 5000}, seconds=5)
    assert precedence.longer(1, 1.0) == 1.0
    assert precedence.longer(2, 1.0) == pytest.approx(1 / 0.9, rel=0.02)
    assert precedence.longer(3, 1.0) == precedence.longer(4, 1.0) == pytest.approx(1 / 0.7, rel=0.02)


def test_at_most_twice_as_long() -> None:
    assert fed({1: 5000}, seconds=5).longer(4, 1.0) == 2.0


def test_what_has_gone_by_is_forgotten() -> None:
    precedence = fed({1: 400}, seconds=5)
    for tenth in range(50, 100):
        precedence.update(tenth / 10, row_s=0.001)
    assert precedence.longer(4, 1.0) == pytest.approx(1.0, abs=0.001)
