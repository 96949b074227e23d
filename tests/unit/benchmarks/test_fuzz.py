"""Cases of bad input are bounded, repeatable, and have names of their own."""

import random

import pytest
from benchmarks.protocols.fuzz import HTTP_CASES, Case
from benchmarks.protocols.fuzz_grpc import GRPC_CASES, WIRES

WIRE_BYTES_MAX = 4 << 20
WIRE_S_MAX = 10.0


@pytest.mark.parametrize("case", HTTP_CASES, ids=[case.name for case in HTTP_CASES])
def test_http_cases_are_bounded_and_repeatable(case: Case):
    for seed in range(20):
        wire = case.make(random.Random(seed))
        assert wire == case.make(random.Random(seed))
        assert sum(map(len, wire.pieces)) <= WIRE_BYTES_MAX
        assert len(wire.pieces) * wire.pause_s <= WIRE_S_MAX
    assert case.expected
    assert not {"500", "timeout", "refused"} & case.expected


def test_grpc_cases_are_bounded():
    for seed in range(20):
        for make in WIRES.values():
            assert sum(map(len, make(random.Random(seed)).pieces)) <= WIRE_BYTES_MAX
        for case in GRPC_CASES:
            assert len(case.make(random.Random(seed))) <= WIRE_BYTES_MAX


def test_names_are_unique():
    names = [case.name for case in HTTP_CASES] + [case.name for case in GRPC_CASES] + list(WIRES)

    assert len(set(names)) == len(names)
