"""Ratios, facts and tables of the protocol figures."""

import io

from benchmarks.harness.claims import print_tables, ratios, summary
from benchmarks.harness.figure import Claim, Result
from rich.console import Console

RESULTS = [
    Result(
        name="swaps",
        claims=(Claim(name="swaps_failed", value=2, at_most=0), Claim(name="swaps_p99", value=1.5, at_most=3)),
        facts={"workers": 2},
        lines=[("swaps", "50")],
        remarks=["mixed: version 3"],
    )
]


def test_every_claim_is_a_ratio():
    assert ratios(RESULTS) == {"swaps_failed": 2, "swaps_p99": 1.5}


def test_the_json_says_what_was_wanted_and_what_failed():
    figures = summary(RESULTS, {"grpc": "no answer"})

    assert figures["claims"]["swaps_failed"] == {"wanted": "≤ 0", "met": False}
    assert figures["claims"]["swaps_p99"]["met"] is True
    assert figures["swaps"] == {"workers": 2, "remarks": ["mixed: version 3"]}
    assert figures["failures"] == {"grpc": "no answer"}


def test_tables_point_at_what_is_short():
    text = io.StringIO()

    print_tables(RESULTS, Console(file=text, width=100, highlight=False, markup=False))

    (line,) = [each for each in text.getvalue().splitlines() if "swaps_failed" in each]
    assert "SHORT" in line
    assert "mixed: version 3" in text.getvalue()
