"""Both forms of traces, with what is missing in them, and files that are none."""

import gzip
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.errors import InvalidInput
from penstock.drills.surge.traces import read_trace

COUNTS = "period,count\n" + "".join(
    f"1998-04-30 21:{minute}:00,{count}\n" for minute, count in ((30, 2), (31, 11), (32, 0), (34, 7))
)


def test_counts_by_bins_with_a_gap_that_had_none(tmp_path: Path) -> None:
    file = tmp_path / "trace.csv.gz"
    file.write_bytes(gzip.compress(COUNTS.encode()))
    assert read_trace(file) == (2, 11, 0, 0, 7)
    assert read_trace(file, part=(0.0, 0.4)) == (2, 11)


def test_one_timestamp_a_request(tmp_path: Path) -> None:
    file = tmp_path / "trace.csv"
    file.write_text(
        "TIMESTAMP\n" + "".join(f"2023-11-16 18:15:{second:02}.6805900\n" for second in (1, 1, 2, 3, 5))
    )
    counts = read_trace(file)
    assert sum(counts) == 5
    assert counts == (2, 1, 1, 1)


@given(st.integers(2, 2000), st.sampled_from([(0.0, 1.0), (0.0, 0.37), (0.6, 1.0)]))
def test_an_even_load_has_no_peak(rows: int, part: tuple[float, float]) -> None:
    """Whatever part of it is taken, and however many rows there are to a bin."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "trace.csv"
        file.write_text("".join(f"{300 * row},100\n" for row in range(rows)))
        counts = read_trace(file, part=part)
    assert max(counts) == pytest.approx(min(counts))
    assert sum(counts) == pytest.approx(100 * rows * (part[1] - part[0]))


def test_seconds_are_timestamps_too(tmp_path: Path) -> None:
    file = tmp_path / "trace.csv"
    file.write_text("0\n1\n2\n3\n")
    assert read_trace(file) == (1, 1, 2)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "timestamp\n",
        "a\nb\nc\n",
        "0,1\n1,-5\n2,1\n",
        "0,1\n1,nan\n",
        "0\nnan\n",
        "5\n5\n5\n",
        "0,1\nlater,2\n",
        "0,1\n1\n2,1\n",
        "1e308\n-1e308\n",
        "0,1e308\n1,1e308\n2,1e308\n",
    ],
)
def test_what_is_no_trace(tmp_path: Path, text: str) -> None:
    file = tmp_path / "trace.csv"
    file.write_text(text)
    with pytest.raises(InvalidInput, match="trace"):
        read_trace(file)


def test_half_a_file(tmp_path: Path) -> None:
    file = tmp_path / "trace.csv.gz"
    file.write_bytes(gzip.compress(COUNTS.encode())[:-9])
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_trace(file)
    with pytest.raises(InvalidInput, match="part of a trace"):
        read_trace(file, part=(0.6, 0.5))
