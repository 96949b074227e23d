"""Which results are the same, and which rates are held against which."""

import pytest
from benchmarks.streams.judge import Trial, agrees, pipeline_claims, rate, slowest

CHECKSUM = {"rows": 3, "exact": "aa", "mean": 1000.0, "probability": 2.0}
OURS = ("penstock_500", "penstock_10000")


def claims(rates: dict[str, float | None], *, dense: bool = False) -> dict[str, float | None]:
    return {claim.name: claim.value for claim in pipeline_claims(rates, ours=OURS, dense=dense)}


@pytest.mark.parametrize(
    "change", [{"rows": 2}, {"exact": "ab"}, {"mean": 1000.001}, {"probability": 2.001}], ids=str
)
def test_other_results_do_not_agree(change):
    assert not agrees(CHECKSUM | change, CHECKSUM)


def test_the_single_precision_of_a_model_does_not_matter():
    assert agrees(CHECKSUM | {"probability": 2.000001}, CHECKSUM)


def test_a_rate_is_the_median_of_the_runs():
    assert rate([Trial(events=100, seconds=s) for s in (1, 2, 10)]) == 50
    assert rate([]) is None


def test_the_slower_of_ours_is_held_against_the_faster_of_theirs():
    rates = {"penstock_500": 400, "penstock_10000": 500, "flink_state": 20, "flink_window": 10}

    assert claims(rates)["pyflink"] == 20


def test_of_a_peer_that_was_not_measured_in_both_ways_the_one_that_was_counts():
    rates = {"penstock_500": 400, "penstock_10000": 500, "flink_state": None, "flink_window": 10}

    assert claims(rates)["pyflink"] == 40


def test_each_size_of_frames_has_a_floor_of_its_own():
    rates = {"penstock_500": 400, "penstock_10000": 500, "floor_500": 500, "floor_10000": 1000}

    seen = claims(rates)

    assert (seen["floor_500"], seen["floor_10000"], seen["floor"]) == (0.8, 0.5, 0.5)


def test_without_one_of_ours_nothing_is_claimed():
    rates = {"penstock_500": 400, "plain_loop": 100, "floor_500": 500}

    assert slowest([400, None]) is None
    assert claims(rates)["plain_loop"] is None
    assert claims(rates)["floor"] is None


def test_dense_windows_have_claims_of_their_own():
    rates = {"penstock_500": 400, "penstock_10000": 500, "plain_loop": 100}

    assert claims(rates, dense=True)["plain_loop_dense"] == 4
    assert "floor" not in claims(rates, dense=True)
