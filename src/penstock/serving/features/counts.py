"""What is counted of features that are read for requests."""

import logging
import threading
from collections.abc import Sequence

from penstock.core.clock import Clock
from penstock.core.errors import PenstockError
from penstock.features.reader import Reading
from penstock.features.view import FeatureView
from penstock.observe.metrics import Counter, MetricSet

__all__ = ["FeatureCounts", "defaults_counter"]

log = logging.getLogger(__name__)

TOLD_EVERY_S = 60.0
FAULT_S = 10.0
"""A view whose reading failed is said to be at fault for so long."""


class _Counted:
    """The measures of one view."""

    def __init__(self, view: FeatureView, metrics: MetricSet) -> None:
        self.rows = metrics.counter(
            "penstock_feature_rows_total", "Rows for which a feature view was read.", view=view.name
        )
        self.failures = metrics.counter(
            "penstock_feature_failures_total",
            "How often a feature view could not be read, or what is kept of a key was damaged.",
            view=view.name,
        )
        self.missing, self.stale, self.misfit = (
            [defaults_counter(metrics, view.name, name, reason) for name in view.feature_names]
            for reason in ("missing", "stale", "misfit")
        )
        self.as_of_s = 0.0
        metrics.gauge(
            "penstock_feature_as_of_seconds",
            "As of when a feature view was read last, in seconds since 1970.",
            lambda: self.as_of_s,
            view=view.name,
        )
        self.fault = ""
        self.failed_s = float("-inf")
        self.told_s = float("-inf")


class FeatureCounts:
    """A `FitObserver` for the views of an app, told by the threads of all runtimes."""

    def __init__(self, views: Sequence[FeatureView], metrics: MetricSet, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._counted = {view.name: _Counted(view, metrics) for view in views}

    def read(self, view: FeatureView, reading: Reading) -> None:
        counted = self._counted[view.name]
        rows = len(reading.stale)
        if not rows:
            return
        defaults = [] if reading.whole else [int(mask.sum()) for mask in reading.defaulted]
        with self._lock:
            counted.rows.value += rows
            counted.as_of_s = int(reading.as_of_ms[-1]) / 1000
            for number, count in enumerate(defaults):
                if count:
                    stale = int((reading.defaulted[number] & reading.stale).sum())
                    counted.stale[number].value += stale
                    counted.missing[number].value += count - stale

    def misfitted(self, view: FeatureView, number: int, rows: int) -> None:
        with self._lock:
            self._counted[view.name].misfit[number].value += rows

    def failed(self, view: FeatureView, error: PenstockError) -> None:
        counted = self._counted[view.name]
        now_s = self._clock.monotonic()
        with self._lock:
            counted.failures.value += 1
            counted.fault, counted.failed_s = error.message, now_s
            tells = now_s - counted.told_s >= TOLD_EVERY_S
            if tells:
                counted.told_s = now_s
        if tells:
            hint = f" (hint: {error.hint})" if error.hint else ""
            log.error("feature view %r: defaults are served: %s%s", view.name, error.message, hint)

    def problems(self) -> dict[str, str]:
        """Why views could not be read just now, by who says so."""
        now_s = self._clock.monotonic()
        return {
            f"feature view {name!r}": f"defaults are served: {counted.fault}"
            for name, counted in self._counted.items()
            if now_s - counted.failed_s < FAULT_S
        }


def defaults_counter(metrics: MetricSet, view: str, feature: str, reason: str) -> Counter:
    """Of one feature, by why: `missing`, `stale` or `misfit`."""
    return metrics.counter(
        "penstock_feature_defaults_total",
        "Rows that had a feature's default: it was missing, its view stale, or its value did not fit.",
        view=view,
        feature=feature,
        reason=reason,
    )
