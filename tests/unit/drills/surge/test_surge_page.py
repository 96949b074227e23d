"""The page stands alone, is well formed, and words from outside cannot become part of it."""

from html.parser import HTMLParser

import pytest
from test_surge_report import report, surge

from penstock.drills.surge.page import render_page


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
