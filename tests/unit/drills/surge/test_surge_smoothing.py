"""Spans of a smooth line: around their point, long enough, and on one side of each edge."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.drills.surge.smoothing import means, smooth_spans


def lengths(points: int, step_s: float, offered_per_s: float) -> int:
    return max(span.stop - span.start for span in smooth_spans(points, step_s, offered_per_s))


@pytest.mark.parametrize(
    ("points", "step_s", "offered_per_s", "steps"),
    [
        (300, 0.1, 1000.0, 11),  # a second
        (300, 0.1, 50.0, 21),  # 100 requests take two
        (300, 0.1, 1.0, 31),  # a tenth of the drill
        (300, 0.1, 0.0, 11),
        (300, 2.0, 1000.0, 1),  # a step is longer than a second
        (5, 0.1, 1000.0, 1),
    ],
)
def test_how_long_they_are(points: int, step_s: float, offered_per_s: float, steps: int) -> None:
    assert lengths(points, step_s, offered_per_s) == steps


@given(
    st.integers(1, 400),
    st.floats(0.1, 10),
    st.floats(0, 1e5),
    st.lists(st.floats(-5, 5000), max_size=2),
)
def test_each_holds_its_point_and_crosses_no_edge(
    points: int, step_s: float, offered_per_s: float, edges_s: list[float]
) -> None:
    spans = smooth_spans(points, step_s, offered_per_s, edges_s)
    assert len(spans) == points
    cuts = [round(at_s / step_s) for at_s in edges_s]
    for index, span in enumerate(spans):
        assert 0 <= span.start <= index < span.stop <= points
        assert not any(span.start < cut < span.stop for cut in cuts)


def test_what_does_not_change_stays_as_it_is() -> None:
    spans = smooth_spans(100, 0.1, 500.0, (4.0,))
    assert means([3.0] * 40 + [9.0] * 60, spans) == [3.0] * 40 + [9.0] * 60
