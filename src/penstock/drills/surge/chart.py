"""Lines over time as inline SVG: no script, no font and nothing else that would have to be fetched."""

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

__all__ = ["Frame", "Series", "line_chart"]

WIDTH, HEIGHT = 900, 260
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 12, 34
TICKS = 5


class Series(NamedTuple):
    """A line; a value of None is a gap in it. `style` is the name of its colour in the page's style.

    `raw`, where there is some, is drawn lightly behind it: what a smooth line leaves out is still seen.
    """

    name: str
    values: Sequence[float | None]
    style: str
    raw: Sequence[float | None] = ()


class Frame(NamedTuple):
    """Where values and moments lie in the picture."""

    span_s: float
    top: float

    def x(self, at_s: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * at_s / self.span_s

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / self.top


def line_chart(
    title: str,
    series: Sequence[Series],
    *,
    step_s: float,
    unit: str,
    marks: Sequence[tuple[float, str]] = (),
    line_at: float | None = None,
) -> str:
    """A figure with its legend. `marks` are moments with their words, `line_at` a value to compare with."""
    points = max((len(each.values) for each in series), default=0)
    drawn = [value for each in series for value in (*each.values, *each.raw) if value is not None]
    highest = max(drawn, default=0.0)
    frame = Frame(max(points * step_s, 1e-9), _rounded_up(max(highest, line_at or 0.0)))
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">', *_axes(frame)]
    for at_s, words in marks:
        parts.append(f'<path class="mark" d="M{frame.x(at_s):.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
        parts.append(f'<text class="axis" x="{frame.x(at_s) + 4:.1f}" y="{TOP + 10}">{escape(words)}</text>')
    if line_at is not None:
        parts.append(f'<path class="bound" d="M{LEFT} {frame.y(line_at):.1f}H{WIDTH - RIGHT}"/>')
    parts += [
        f'<path class="raw {each.style}" d="{_path(each.raw, step_s, frame)}"/>' for each in series if each.raw
    ]
    for each in series:
        path = _path(each.values, step_s, frame)
        parts.append(f'<path class="line {each.style}" d="{path}"><title>{escape(each.name)}</title></path>')
    legend = "".join(f'<span><i class="{each.style}"></i>{escape(each.name)}</span>' for each in series)
    caption = f"<figcaption><b>{escape(title)}</b> <small>{escape(unit)}</small></figcaption>"
    picture = f'<div class="scroll">{"".join(parts)}</svg></div>'
    return f'<figure>{caption}{picture}<div class="legend">{legend}</div></figure>'


def _axes(frame: Frame) -> list[str]:
    parts = []
    for tick in range(TICKS + 1):
        value, at_s = frame.top * tick / TICKS, frame.span_s * tick / TICKS
        y = frame.y(value)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text class="axis" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:,.6g}</text>')
        place = f'x="{frame.x(at_s):.1f}" y="{HEIGHT - 14}" text-anchor="middle"'
        parts.append(f'<text class="axis" {place}>{at_s:.3g} s</text>')
    return parts


def _path(values: Sequence[float | None], step_s: float, frame: Frame) -> str:
    """Through the middles of the steps; a point alone is drawn as a short line, or it would not be seen."""
    pieces, pen = [], "M"
    for index, value in enumerate(values):
        if value is None:
            pen = "M"
            continue
        pieces.append(f"{pen}{frame.x((index + 0.5) * step_s):.1f} {frame.y(value):.1f}")
        if pen == "M":
            pieces.append("h.5")
        pen = "L"
    return "".join(pieces)


def _rounded_up(value: float) -> float:
    """To 1, 2, 2.5 or 5 times a power of ten, so that the axis has round numbers."""
    if value <= 0:
        return 1.0
    power: float = 10.0 ** math.floor(math.log10(value))
    return next(power * step for step in (1, 2, 2.5, 5, 10) if power * step >= value * (1 - 1e-9))
