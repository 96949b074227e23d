"""The Prometheus text format, version 0.0.4."""

import math
from collections.abc import Iterable

__all__ = ["CONTENT_TYPE", "Labels", "format_number", "render_families"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = tuple[tuple[str, str], ...]
Row = tuple[str, Labels, float]
"""A suffix of the family's name, labels, and a value."""


def render_families(families: Iterable[tuple[str, str, str, Iterable[Row]]]) -> str:
    """Families by name, kind and help text, with their rows."""
    lines: list[str] = []
    for name, kind, text, rows in families:
        lines += [f"# HELP {name} {_escape_help(text)}", f"# TYPE {name} {kind}"]
        lines += [f"{name}{suffix}{_labels(labels)} {format_number(value)}" for suffix, labels, value in rows]
    return "\n".join(lines) + "\n"


def format_number(value: float) -> str:
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else f"{value:+f}".title()
    return str(int(value)) if value == int(value) and abs(value) < 2**53 else repr(value)


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escape(value)}"' for name, value in labels) + "}"


def _escape_help(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
