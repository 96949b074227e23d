from pathlib import Path

import pytest

from penstock.core.errors import ConfigurationError, StorageFailed
from penstock.core.tensors import DataType
from penstock.features import history_mark as module
from penstock.features.history_mark import (
    Replaced,
    Replacements,
    check_mark,
    claim_folder,
    number_of_replacement,
    number_of_run,
    put_in_place,
    replacements_of,
)
from penstock.features.view import Feature, FeatureView, KeyColumn


def view(name: str = "congestion", definition: str = "1h", app: str = "flights") -> FeatureView:
    return FeatureView(
        name=name,
        keys=(KeyColumn(name="origin", datatype=DataType.STRING),),
        features=(Feature(name="n", datatype=DataType.INT64, default=0),),
        topic=f"{app}.{name}.features",
        app=app,
        definition=definition,
    )


def test_a_folder_is_of_who_claimed_it(tmp_path: Path) -> None:
    folder = tmp_path / "history"
    check_mark(folder, view(), writes=True)
    assert not folder.exists(), "who looks makes nothing"

    claim_folder(folder, view())
    claim_folder(folder, view())

    check_mark(folder, view(), writes=True)
    check_mark(folder, view(app="training"))
    for other in (view(definition="5m"), view("other"), view(app="training")):
        with pytest.raises(ConfigurationError, match=r"is of view 'congestion' of app 'flights'"):
            check_mark(folder, other, writes=True)
        with pytest.raises(ConfigurationError):
            claim_folder(folder, other)
        with pytest.raises(ConfigurationError):
            number_of_run(folder, other, "a")
    with pytest.raises(ConfigurationError, match="as it was defined otherwise"):
        check_mark(folder, view(definition="5m"))


def test_backfills_are_numbered_as_they_were_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RUNS_MAX", 2)
    assert [number_of_run(tmp_path, view(), run) for run in ("a", "b", "a", "b")] == [1, 2, 1, 2]
    with pytest.raises(ConfigurationError, match="2 backfills already"):
        number_of_run(tmp_path, view(), "c")


def test_a_mark_that_cannot_be_read_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "_features.json").write_bytes(b"{")
    with pytest.raises(StorageFailed, match="which says what the history is of"):
        check_mark(tmp_path, view())


def test_a_replacement_holds_when_it_is_whole_and_done_again_is_the_same(tmp_path: Path) -> None:
    def begin(run: str) -> int:
        return number_of_replacement(tmp_path, view(), run)

    assert replacements_of(tmp_path) == Replacements()
    assert number_of_run(tmp_path, view(), "a") == 1
    assert [begin("a"), begin("a")] == [2, 2], "it goes on"
    assert replacements_of(tmp_path) == Replacements((), frozenset({2}))
    first = Replaced(run=2, from_ms=5, to_ms=9)
    for _ in range(2):
        put_in_place(tmp_path, first)
        assert replacements_of(tmp_path) == Replacements((first,), frozenset())
    assert begin("a") == 2
    assert begin("b") == 3
    assert begin("a") == 4, "what was begun after it would count more"
    assert replacements_of(tmp_path) == Replacements((first,), frozenset({3, 4}))
    last = Replaced(run=4, from_ms=5, to_ms=9)
    put_in_place(tmp_path, last)
    assert begin("a") == 4
    assert number_of_run(tmp_path, view(), "c") == 5
    assert begin("a") == 6
    assert replacements_of(tmp_path) == Replacements((first, last), frozenset({3, 6}))
