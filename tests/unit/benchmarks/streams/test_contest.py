"""A checksum tells other results, and not another order."""

import numpy as np
from benchmarks.streams.judge import agrees
from benchmarks.streams.peers.contest import Results, checksum, results_of_rows

ROWS = [(7, 1, 3.0, 3, 0.25), (2, 2, 4.5, 6, 0.5), (5, 3, 1.5, 9, 0.125)]


def test_order_and_kind_of_columns_do_not_matter():
    columns = Results(*(np.array(column) for column in zip(*reversed(ROWS), strict=True)))

    assert agrees(checksum(columns), checksum(results_of_rows(ROWS)))


def test_every_field_is_in_it():
    for place in range(5):
        changed = [tuple(value + (column == place) for column, value in enumerate(ROWS[0])), *ROWS[1:]]
        assert not agrees(checksum(results_of_rows(changed)), checksum(results_of_rows(ROWS))), place


def test_means_that_are_swapped_are_other_results():
    swapped = [(7, 1, 4.5, 3, 0.25), (2, 2, 3.0, 6, 0.5), ROWS[2]]

    assert not agrees(checksum(results_of_rows(swapped)), checksum(results_of_rows(ROWS)))


def test_of_nothing():
    assert checksum(results_of_rows([]))["rows"] == 0
