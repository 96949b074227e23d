import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from penstock.features.online import NO_TIME_MS, OFFSET_BITS, Progress
from penstock.features.standing import Standing

PROGRESS = st.lists(
    st.tuples(st.integers(0, 6), st.just(NO_TIME_MS) | st.integers(0, 100), st.integers(0, 100)),
    max_size=4,
    unique_by=lambda each: each[0],
)
KEYS = st.lists(st.tuples(st.integers(-1, 9), st.integers(0, 5), st.sampled_from([0, 30, 200])), max_size=5)


@given(PROGRESS, KEYS, st.none() | st.integers(0, 60), st.integers(0, 150))
def test_each_key_stands_where_its_partition_does(told, keys, silent_ms_max, now_ms):
    """The rules one by one, for one key after the other."""
    progress = [Progress(partition, as_of_ms, 0, heard_ms) for partition, as_of_ms, heard_ms in told]
    positions = np.array([(partition << OFFSET_BITS) + offset for partition, offset, _ in keys], np.int64)
    available_ms = np.array([each[2] for each in keys], np.int64)
    standing = Standing(progress, silent_ms_max)
    timed = {each.partition: each.as_of_ms for each in progress if each.as_of_ms > NO_TIME_MS}
    silent = {
        each.partition: silent_ms_max is not None and abs(now_ms - each.heard_ms) > silent_ms_max
        for each in progress
    }

    as_of_ms = standing.as_of_ms(positions, available_ms, now_ms).tolist()
    stale = standing.stale(positions, now_ms).tolist()

    for row, (partition, _, available) in enumerate(keys):
        if partition in timed:
            wanted = timed[partition]
        elif partition < 0 and timed:
            wanted = max(available, *timed.values()) if available else min(timed.values())
        else:
            wanted = available or now_ms
        assert as_of_ms[row] == wanted
        nobody = silent_ms_max is not None and not silent
        assert stale[row] == silent.get(partition, nobody or any(silent.values()))
