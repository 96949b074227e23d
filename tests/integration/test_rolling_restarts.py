"""Two instances behind HAProxy, restarted one after the other under load: no request fails.

The short form of a figure of `benchmarks.protocols`, which restarts twenty times.
"""

import shutil

import pytest
from benchmarks.protocols import rolling
from benchmarks.protocols.haproxy import PLACES
from protocol_bench import quick_bench

pytestmark = pytest.mark.alone

RESTARTS = 2


@pytest.mark.skipif(shutil.which("haproxy", path=PLACES) is None, reason="HAProxy is not installed")
def test_rolling_restarts_lose_no_request(tmp_path_factory: pytest.TempPathFactory) -> None:
    result = rolling.measure(quick_bench(tmp_path_factory))
    assert result.facts["restarts"] == RESTARTS
    answered = result.facts["answered"]
    assert isinstance(answered, int)
    assert answered > 100
    assert {claim.name: claim.value for claim in result.claims} == {
        "rolling_failed": 0,
        "rolling_probes_failed": 0,
        "rolling_unclean_exits": 0,
    }, result.facts
