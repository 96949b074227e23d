"""The JSON that every benchmark writes: `{"name", "machine", "ratios", "figures"}`."""

import json
import os
import platform
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path

import psutil

__all__ = ["machine", "median", "ratio", "write_json"]


def machine() -> dict[str, object]:
    """What the figures were taken on, and how busy it was just before."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_mb": psutil.virtual_memory().total // 2**20,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_average_1m": round(os.getloadavg()[0], 2),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def median(values: Iterable[float | None]) -> float | None:
    """The median of what was measured; None if nothing was."""
    measured = [value for value in values if value is not None]
    return statistics.median(measured) if measured else None


def ratio(part: float | None, whole: float | None) -> float | None:
    """`part / whole`, or None where either was not measured."""
    return None if part is None or not whole else part / whole


def write_json(
    path: Path,
    *,
    name: str,
    on: Mapping[str, object],
    ratios: Mapping[str, float | None],
    figures: Mapping[str, object],
) -> None:
    document = {"name": name, "machine": dict(on), "ratios": dict(ratios), "figures": dict(figures)}
    path.write_text(json.dumps(document, indent=2) + "\n")
