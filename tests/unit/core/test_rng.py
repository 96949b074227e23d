import random

import numpy as np

from penstock.core.rng import numpy_rng, seeded_rng, unique_token


def test_a_seed_fixes_the_numbers() -> None:
    assert seeded_rng(7).random() == random.Random(7).random()
    assert numpy_rng(7).random() == np.random.default_rng(7).random()
    assert seeded_rng().random() != seeded_rng().random()


def test_unique_token() -> None:
    tokens = {unique_token(8) for _ in range(100)}
    assert len(tokens) == 100
    assert {len(bytes.fromhex(token)) for token in tokens} == {8}
