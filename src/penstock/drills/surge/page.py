"""The report as one page."""

from penstock.drills.surge.report import Report

__all__ = ["render_page"]


def render_page(report: Report) -> str:
    return f"<!doctype html><title>{report.verdict}</title>"
