"""The page stands alone, is well formed, and words from outside cannot become part of it."""

from html.parser import HTMLParser

import msgspec
import pytest
from test_surge_report import report, surge

from penstock.drills.surge.page import render_page
from penstock.drills.surge.recording import Finished, Outcome


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.met: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.met.append(tag)
        self.links += [f"{name}={value}" for name, value in attrs if name in ("src", "href", "srcset")]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.met.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("rows", [[], list(surge(bad_until_s=6))], ids=["nothing came", "a surge"])
def test_it_stands_alone(rows: list[object]) -> None:
    page = render_page(report(rows, "good>=0.5", "recovery_s<=1"))  # type: ignore[arg-type]
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    assert reader.met.count("svg") == 3
    assert reader.links == []
    assert "script" not in reader.met
    assert "url(" not in page
    assert "@import" not in page
    assert "prefers-color-scheme:dark" in page
    # The model, the host and a tenant of these names are words, not tags.
    assert {"m", "host", "bolt"}.isdisjoint(reader.met)


def test_it_says_what_was_required_and_what_to_doubt() -> None:
    rows = list(surge(bad_until_s=6))
    held = render_page(report(rows, "good>=0.5", "p99_ms<=100"))
    assert "All that was required held." in held
    assert "p99_ms&lt;=100" in held
    doubted = render_page(report(rows, "good>=0.5", generator={"processor_share": 0.99}))
    assert "No verdict" in doubted
    assert "99% of a core" in doubted
    stuck = render_page(report(list(surge(bad_until_s=9))))
    assert "did not come back to normal" in stuck


def test_smooth_lines_stand_before_light_ones_that_hide_no_dip() -> None:
    made = report([each for each in surge(bad_until_s=6) if not 7.0 <= each.intended_s < 7.3])
    page = render_page(made)
    assert page.count('<path class="raw good"') == page.count('<path class="line good"') == 2
    assert page.index('class="raw good"') < page.index('class="line good"')
    assert "taken over 0.9 s" in page
    line = made.timeline
    # For 0.3 s nobody came: that is three steps of nothing, and two thirds for who looks at all of it.
    assert line.good_per_s[70:73] == [0, 0, 0]
    assert line.smooth.good_per_s[71] == pytest.approx(100 * 6 / 9)
    # The surge's first step is not mixed with the time before it.
    assert line.smooth.good_per_s[29] == pytest.approx(100)
    assert 20 <= line.smooth.good_per_s[30] <= 30


def test_a_line_that_is_smooth_as_it_is_is_drawn_once() -> None:
    made = report(list(surge(bad_until_s=6)))
    alone = msgspec.structs.replace(made.timeline.smooth, over_s=made.timeline.step_s)
    made = msgspec.structs.replace(made, timeline=msgspec.structs.replace(made.timeline, smooth=alone))
    page = render_page(made)
    assert '<path class="raw' not in page
    assert "A point for each 0.1 s." in page


def test_a_quantile_of_a_second_is_none_of_quantiles() -> None:
    """Each other step is slow, but few ask in it: nine in ten of a second wait no longer than in the others."""
    rows = [
        Finished(step / 10 + 0.05, 0.01 if step % 2 or number < 5 else 0.5, 0.0, 0, Outcome.GOOD, 0, 0)
        for step in range(90)
        for number in range(90 if step % 2 else 10)
    ]
    line = report(rows).timeline
    assert line.p90_ms[40:42] == [pytest.approx(500, rel=0.02), pytest.approx(10, rel=0.02)]
    waits = sorted(each.latency_s * 1e3 for each in rows if 3.6 <= each.intended_s < 4.5)
    assert line.smooth.p90_ms[40] == pytest.approx(waits[-(-len(waits) * 90 // 100) - 1], rel=0.02)
    assert line.smooth.p90_ms[40] == pytest.approx(10, rel=0.02)
    assert line.smooth.p99_ms[40] == pytest.approx(500, rel=0.02)
