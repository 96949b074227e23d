import numpy as np
import polars as pl
import pytest

from penstock.streams.operator import OFFSET, TIME, Moment
from penstock.streams.windows import WindowConfig, disorder
from penstock.streams.windows.aggregates import Count, Last, Max, Min, Sum, Variance

AGGREGATES = {
    "n": Count(),
    "total": Sum("v"),
    "whole": Sum("i"),
    "most": Max("v"),
    "least": Min("i"),
    "last": Last("i"),
    "spread": Variance("v"),
}
MOMENT = Moment(watermark_ms=0, next_watermark_ms=0, now_ms=0)


def events(keys: int, jitter_ms: int) -> pl.DataFrame:
    generator = np.random.default_rng(keys + jitter_ms)
    count = 150
    values = generator.normal(size=count) * 10.0 ** generator.integers(-9, 9, count)
    return pl.DataFrame(
        {
            "k": generator.integers(0, keys, count),
            "v": pl.Series(values).set(pl.Series(generator.random(count) < 0.1), None),
            "i": generator.integers(-100, 100, count),
            TIME: 10_000 + 8 * np.arange(count) - generator.integers(0, jitter_ms, count),
            OFFSET: np.arange(count),
        }
    )


def bits(frame: pl.DataFrame) -> list[tuple[object, ...]]:
    return frame.with_columns(pl.col(pl.Float64).reinterpret(signed=True)).rows()


@pytest.mark.parametrize(("keys", "jitter_ms"), [(1, 600), (3, 200), (30, 900)])
@pytest.mark.parametrize("inclusive", [False, True])
def test_one_frame_reads_what_a_frame_for_each_event_does(
    keys: int, jitter_ms: int, inclusive: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = events(keys, jitter_ms)
    config = WindowConfig(keys=("k",), over_ms=600, every_ms=50, aggregates=AGGREGATES, inclusive=inclusive)
    single = config.build(None)
    expected = pl.concat([single.process(frame[row], MOMENT) for row in range(frame.height)])
    for cells_max, pairs_max in ((1, 1), (50, 7), (disorder.CELLS_MAX, disorder.PAIRS_MAX)):
        monkeypatch.setattr(disorder, "CELLS_MAX", cells_max)
        monkeypatch.setattr(disorder, "PAIRS_MAX", pairs_max)
        window = config.build(None)
        read = pl.concat([window.process(part, MOMENT) for part in (frame[:70], frame[70:])])
        assert bits(read.select(*AGGREGATES)) == bits(expected.select(*AGGREGATES))
