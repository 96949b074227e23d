"""Tables fit a terminal where they can, and never at the price of a name."""

import pytest

from penstock.cli.output import column_widths, print_table

COLUMNS = ("topic", "detail", "lag")
CELLS = [
    ["shop.clicks.join.users", "Expected `int`, got `str` - at `$.number` of the event", "5"],
    ["clicks", "short", "1234567"],
]


@pytest.mark.parametrize(("line", "widths"), [(None, [22, 54, 7]), (87, [22, 54, 7]), (70, [22, 37, 7])])
def test_words_give_way_and_names_do_not(line: int | None, widths: list[int]) -> None:
    assert column_widths(COLUMNS, CELLS, line) == widths


def test_a_line_is_longer_than_the_terminal_where_nothing_gives_way() -> None:
    assert column_widths(COLUMNS, CELLS, 40) == [22, 24, 7]


def test_in_a_pipe_each_row_is_a_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    print_table(COLUMNS, CELLS)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[1] == "  ".join((CELLS[0][0], CELLS[0][1], "5"))
