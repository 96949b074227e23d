"""Places that fail on purpose."""

import pytest

from penstock.core.errors import ConfigurationError, StorageFailed
from penstock.core.failpoints import failpoints_of


def test_it_fails_the_time_that_was_said_and_only_there() -> None:
    failpoints = failpoints_of("commit:2:raise")
    failpoints.pass_by("commit")
    failpoints.pass_by("poll")
    with pytest.raises(StorageFailed, match="'commit'"):
        failpoints.pass_by("commit")
    failpoints.pass_by("commit")


@pytest.mark.parametrize("value", [None, ""])
def test_nothing_fails_where_nothing_is_said(value: str | None) -> None:
    failpoints = failpoints_of(value)
    for _ in range(100):
        failpoints.pass_by("commit")


@pytest.mark.parametrize(
    "value", ["commit", "commit:0:kill", "commit:x:kill", "commit:1:explode", "a:1:kill:b"]
)
def test_what_is_no_failpoint(value: str) -> None:
    with pytest.raises(ConfigurationError, match="PENSTOCK_FAILPOINT is"):
        failpoints_of(value)
