import traceback

import pytest

from penstock.core import errors
from penstock.core.errors import InvalidInput, ModelFailed, NotFound, PenstockError, Refused, TooLarge, shown

ALL_KINDS = [getattr(errors, name) for name in errors.__all__ if name != "shown"]


def make(kind: type[PenstockError]) -> PenstockError:
    if issubclass(kind, Refused):
        return kind("no room", reason="queue_full", retry_after_s=2.5, hint="later")
    if issubclass(kind, InvalidInput):
        return kind("bad", where="x", hint="send another")
    return kind("broken", hint="mend it")


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_is_of_the_family(kind: type[PenstockError]) -> None:
    assert issubclass(kind, PenstockError)
    assert str(make(kind)) == make(kind).message


def test_a_traceback_shows_the_hint() -> None:
    shown_lines = "".join(traceback.format_exception(ModelFailed("broken", hint="mend it")))
    assert shown_lines.endswith("ModelFailed: broken\nhint: mend it\n")
    assert not hasattr(ModelFailed("broken"), "__notes__")


def test_facts() -> None:
    refused = Refused("no room", reason="queue_full")
    assert (refused.reason, refused.retry_after_s, refused.hint) == ("queue_full", 1.0, None)
    assert InvalidInput("bad").where is None
    assert isinstance(TooLarge("big", where="body"), InvalidInput)
    assert not issubclass(ModelFailed, InvalidInput)
    assert not issubclass(NotFound, InvalidInput)


def test_what_is_shown_of_a_value_is_bounded() -> None:
    assert (shown("x"), shown(5), shown(None)) == ("'x'", "5", "None")
    assert shown("x" * 81) == f"'{'x' * 80}…'"
    for value in ("\ud800" * 10**6, "x" * 10**6, ["x"] * 10**6, b"x" * 10**6, 10**4000, 10**5000):
        assert len(shown(value)) <= 1000
        assert shown(value).isprintable()
