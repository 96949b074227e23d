"""Models of known cost: as many layers as are wanted, and answers that are each row's own."""

import numpy as np
import onnxruntime
import pytest
from benchmarks.surge.models import costly_graph, layers_for


def test_layers_are_found_on_the_line_through_two_measurements():
    assert layers_for(3.0, (10, 0.3), (20, 0.5)) == 145  # 20 µs each on 100 µs
    assert layers_for(0.01, (10, 0.3), (20, 0.5)) == 1


def test_more_layers_that_cost_less_are_no_measurement():
    with pytest.raises(AssertionError, match="cost more"):
        layers_for(1.0, (10, 0.5), (20, 0.4))


@pytest.fixture(scope="module")
def session() -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(costly_graph(20), providers=["CPUExecutionProvider"])


def test_each_row_has_its_own_answer_alone_and_in_a_batch(session):
    rows = np.random.default_rng(1).normal(size=(16, 30)).astype(np.float32)

    (batch,) = session.run(["probabilities"], {"x": rows})
    alone = [session.run(["probabilities"], {"x": row[None]})[0][0] for row in rows]

    assert batch == pytest.approx(np.array(alone), abs=1e-6)
    assert batch.sum(axis=1) == pytest.approx(1.0)
    assert len({round(float(row[1]), 5) for row in batch}) == len(rows)
