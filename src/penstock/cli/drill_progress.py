"""How a drill goes, while it does: a table that is redrawn, or a line now and then where nobody looks."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["plain_progress", "rich_progress"]

PLAIN_EVERY_S = 2.0


class _Step:
    """What came since the last time."""

    def __init__(self) -> None:
        self._last: Any = None

    def rates(self, progress: Any) -> dict[str, str]:
        from penstock.drills.surge.quantiles import quantile_s
        from penstock.drills.surge.recording import Outcome

        last, self._last = self._last, progress
        elapsed_s = max(progress.elapsed_s - (last.elapsed_s if last else 0.0), 1e-3)
        outcomes = progress.outcomes - (last.outcomes if last else 0)
        latency = progress.latency - (last.latency if last else 0)
        shed = {
            reason: (count - (last.shed.get(reason, 0) if last else 0)) / elapsed_s
            for reason, count in progress.shed.items()
        }
        told = {
            "offered/s": f"{(progress.offered - (last.offered if last else 0)) / elapsed_s:,.0f}",
            "good/s": f"{outcomes[Outcome.GOOD] / elapsed_s:,.0f}",
            "late/s": f"{outcomes[Outcome.LATE] / elapsed_s:,.0f}",
            "failed/s": f"{outcomes[Outcome.EXPIRED :].sum() / elapsed_s:,.0f}",
        }
        told |= {f"shed/s ({reason})": f"{rate:,.0f}" for reason, rate in sorted(shed.items())}
        for name, quantile in (("p50 ms", 0.5), ("p99 ms", 0.99)):
            found = quantile_s(latency, quantile)
            told[name] = "–" if found is None else f"{found * 1e3:.1f}"
        return told


@contextmanager
def plain_progress(say: Callable[[str], None]) -> Iterator[Callable[[Any], None]]:
    """A line every two seconds."""
    step, said_s = _Step(), -PLAIN_EVERY_S

    def watch(progress: Any) -> None:
        nonlocal said_s
        if progress.elapsed_s - said_s >= PLAIN_EVERY_S:
            said_s = progress.elapsed_s
            told = ", ".join(f"{name} {value}" for name, value in step.rates(progress).items())
            say(f"{progress.elapsed_s:5.1f} s: {told}")

    yield watch


@contextmanager
def rich_progress(objective_ms: float) -> Iterator[Callable[[Any], None]]:
    """A table on stderr; the quantiles are of what was answered since the last redraw."""
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table

    step, drawn_s = _Step(), -1.0
    # The table begins with the load: what is said before it would be drawn over.
    live = Live(console=Console(stderr=True), auto_refresh=False, transient=True)
    started = False

    def watch(progress: Any) -> None:
        nonlocal started, drawn_s
        if progress.elapsed_s - drawn_s < 0.4:
            return
        drawn_s = progress.elapsed_s
        if not started:
            live.start()
            started = True
        table = Table(title=f"{progress.elapsed_s:.0f} s · good is within {objective_ms:g} ms")
        table.add_column("now")
        table.add_column("", justify="right")
        for name, value in step.rates(progress).items():
            table.add_row(name, value)
        live.update(table, refresh=True)

    try:
        yield watch
    finally:
        if started:
            live.stop()
