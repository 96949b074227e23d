"""Good and bad requests side by side for some seconds: every good one is answered, no bad one is an error of
the server, and no process is lost.

The short form of a figure of `benchmarks.protocols`, which goes on for an hour and looks at memory.
"""

import pytest
from benchmarks.protocols import soak
from protocol_bench import quick_bench

pytestmark = pytest.mark.alone

BAD_REQUESTS_MIN = 100


def test_bad_requests_harm_nobody(tmp_path_factory: pytest.TempPathFactory) -> None:
    result = soak.measure(quick_bench(tmp_path_factory))
    claims = {claim.name: claim.value for claim in result.claims}
    assert claims.pop("soak_slope_mb_h") is None  # seconds say nothing of an hour
    assert claims == dict.fromkeys(
        ("soak_server_errors", "soak_good_failed", "soak_unexpected", "soak_processes_lost"), 0
    ), (result.remarks, result.facts["good_failures"], result.facts["grpc_failures"])
    assert result.facts["tracebacks"] == 0
    outcomes = result.facts["outcomes"]
    assert isinstance(outcomes, dict)
    assert sum(sum(counts.values()) for counts in outcomes.values()) > BAD_REQUESTS_MIN
