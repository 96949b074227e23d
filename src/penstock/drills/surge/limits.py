"""Whether the generator itself was the limit: then its figures say nothing about the server."""

import msgspec

__all__ = ["UNSENT_SHARE", "GeneratorFigures", "limits_met"]

LATENESS_P99_S = 0.020
"""Sends that are later than this, one in a hundred, are a load of another shape than was asked."""
PROCESSOR_SHARE = 0.95
LOOP_LAG_S = 0.250
UNSENT_SHARE = 0.001


class GeneratorFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What the generator tells of itself. Shares are of a process, the worst of them."""

    processes: int
    connections: int
    lateness_p50_ms: float
    lateness_p99_ms: float
    lateness_max_ms: float
    processor_share: float
    """Processor time over time, of the busiest process."""
    loop_lag_max_ms: float
    """The longest that an event loop was late for its own timer."""
    unsent_share: float
    """Of the offered: no connection was free in time."""
    connections_needed: int
    """As many as are in use at the peak of the load while answers come within the objective."""
    reconnects: int
    connections_failed: int = 0
    """Could not be opened before the load began."""


def limits_met(figures: GeneratorFigures) -> tuple[str, ...]:
    """Why the figures are not to be trusted, in words; none is the good case."""
    told = []
    if figures.lateness_p99_ms > LATENESS_P99_S * 1e3:
        told.append(
            f"it sent late: one request in a hundred more than {figures.lateness_p99_ms:.0f} ms after its time "
            f"(allowed: {LATENESS_P99_S * 1e3:.0f} ms); more --processes or a lower rate may help"
        )
    if figures.processor_share > PROCESSOR_SHARE:
        told.append(
            f"its busiest process used {figures.processor_share:.0%} of a core; give it more --processes, "
            "or a machine of its own"
        )
    if figures.loop_lag_max_ms > LOOP_LAG_S * 1e3:
        told.append(
            f"one of its event loops stood still for {figures.loop_lag_max_ms:.0f} ms; "
            "the machine is short of cores"
        )
    if figures.unsent_share > UNSENT_SHARE and figures.connections < figures.connections_needed:
        told.append(
            f"{figures.unsent_share:.1%} of the requests found no free connection of {figures.connections:,}; "
            f"give it --connections {figures.connections_needed}"
        )
    if figures.connections_failed:
        told.append(
            f"{figures.connections_failed:,} of {figures.connections:,} connections could not be opened; "
            "allow more open files (ulimit -n), or ask for fewer --connections"
        )
    return tuple(told)
