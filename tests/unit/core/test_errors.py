"""Errors keep their facts, also on their way through pickle (to and from worker processes)."""

import pickle

import pytest

from penstock.core import errors
from penstock.core.errors import InvalidInput, ModelFailed, NotFound, PenstockError, Refused, TooLarge

ALL_KINDS = [getattr(errors, name) for name in errors.__all__]


def make(kind: type[PenstockError]) -> PenstockError:
    if issubclass(kind, Refused):
        return kind("no room", reason="queue_full", retry_after_s=2.5, hint="later")
    if issubclass(kind, InvalidInput):
        return kind("bad", where="x", hint="send another")
    return kind("broken", hint="mend it")


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_pickle_round_trip(kind: type[PenstockError]) -> None:
    error = make(kind)
    error.extra = [1, 2]  # type: ignore[attr-defined] # facts set later travel too
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert vars(again) == vars(error)
    assert (str(again), again.args) == (str(error), error.args)


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_is_of_the_family(kind: type[PenstockError]) -> None:
    assert issubclass(kind, PenstockError)
    assert str(make(kind)) == make(kind).message


def test_facts() -> None:
    refused = Refused("no room", reason="queue_full")
    assert (refused.reason, refused.retry_after_s, refused.hint) == ("queue_full", 1.0, None)
    assert InvalidInput("bad").where is None
    assert isinstance(TooLarge("big", where="body"), InvalidInput)
    assert not issubclass(ModelFailed, InvalidInput)
    assert not issubclass(NotFound, InvalidInput)
