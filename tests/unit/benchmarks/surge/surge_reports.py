"""Reports of the open-loop generator, made up for tests."""

from benchmarks.surge.generator import TOTAL, Seen, SeenClass, SeenPhase, Window

WINDOW_S = 0.1


def seen_class(name: str = TOTAL, **counts: object) -> SeenClass:
    """A class whose counts are 0 unless given."""
    zeros = dict.fromkeys(
        ("arrivals", "retries", "sent", "good", "late", "rungs", "given_up", "broken", "unsent"), 0
    )
    latencies = dict.fromkeys(("p50_ms", "p99_ms", "max_ms", "refusal_p50_ms", "refusal_p99_ms"), 0.0)
    return SeenClass(**{"name": name, "statuses": {}, **zeros, **latencies, **counts})


def seen_phase(name: str, *classes: SeenClass, **facts: object) -> SeenPhase:
    """A phase of one second, unless told otherwise."""
    usual = {"rate": 0.0, "in_flight": 0, "start_s": 100.0, "seconds": 1.0, "lag_ms_max": 0.0, "lag_late": 0}
    return SeenPhase(**{"name": name, "classes": classes or (seen_class(),), **usual, **facts})


def seen(windows: list[tuple[int, int]] = (), *phases: SeenPhase) -> Seen:
    """A run with windows of (attempts, good), which begins at 100 s."""
    return Seen(
        start_s=100.0,
        connections=10,
        connects=0,
        connect_failures=0,
        cpu_s=0.5,
        turn_ms_max=1.0,
        phases=phases,
        window_s=WINDOW_S,
        windows=tuple(Window(attempts, good, good, attempts - good) for attempts, good in windows),
    )
