"""What a stage's plan comes to in short: another where its steps are others, the same in the next process."""

import polars as pl

import penstock as ps
from penstock.streams.stage_state import shape_of
from penstock.streams.topology import topology


def shape(*, filtered: bool = False, over: str = "1s", output: str = "out", steps: int = 1) -> str:
    app = ps.App("app")
    stream = app.stream("events", schema={"key": pl.String, "number": pl.Int64}, key="key")
    if filtered:
        stream = stream.filter(pl.col("number") >= 0)
    rows = stream.window(key="key", over=over).agg(count=ps.count()).closed
    for _ in range(steps):
        rows = rows.map(lambda frame: frame, schema={"key": pl.String})
    rows.into(output)
    (stage,) = topology(app.streams.graph, {}).stages
    return shape_of(stage)


def test_a_plan_has_the_same_shape_until_its_steps_or_outputs_are_others() -> None:
    assert shape() == shape()
    others = {shape(filtered=True), shape(over="2s"), shape(output="other"), shape(steps=2)}
    assert len({shape(), *others}) == 5
