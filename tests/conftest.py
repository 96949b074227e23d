"""What all tests share."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings
from kafka_broker import shared_broker

# The same examples on every run: a failure is a change's, not a day's. `make explore` looks for new ones.
# How long one takes says more of the machine than of the code.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("explore", max_examples=2000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Kafka of one node, the same for all processes of a run of the tests."""
    base = tmp_path_factory.getbasetemp()
    folder = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with shared_broker(folder) as address:
        yield address
