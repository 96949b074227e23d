"""What the models with features have in common in one process: the store that they are read from, what is
counted of that, and where what was served is recorded.
"""

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

from penstock.app.declarations import App
from penstock.app.model_declarations import Declaration
from penstock.app.model_features import ModelFeatures
from penstock.core.clock import Clock
from penstock.core.settings import Settings
from penstock.features.embedded import EmbeddedOnlineStore
from penstock.features.reader import ViewReader
from penstock.features.view import FeatureView
from penstock.log.opening import open_from_settings
from penstock.log.port import Log, Producer, TopicSpec
from penstock.log.records import Records, TopicPartition
from penstock.models.runtimes.runtime import Examine, Runtime
from penstock.observe.metrics import MetricSet
from penstock.serving.deployment import ServedModel
from penstock.serving.features.counts import FeatureCounts
from penstock.serving.features.filling import Filling, filling_of
from penstock.serving.features.runtime import FeatureRuntime
from penstock.serving.features.served_log import ServedLog

__all__ = ["FeatureServing", "features_of", "served_topic"]


def served_topic(app: str, model: str) -> str:
    """Where what was served of a model is recorded."""
    return f"{app}.{model}.served"


def features_of(app: App, settings: Settings, metrics: MetricSet, clock: Clock) -> "FeatureServing | None":
    """None where no model of the app has features."""
    return FeatureServing(app, settings, metrics, clock) if any(_views(app)) else None


class FeatureServing:
    """Thread-safe."""

    def __init__(self, app: App, settings: Settings, metrics: MetricSet, clock: Clock) -> None:
        self._app = app.name
        self._clock = clock
        self._store = EmbeddedOnlineStore(Path(settings.home))
        self._held_bytes = settings.features.held_bytes_max
        views = {view.name: view for view in _views(app)}
        self._counts = FeatureCounts(tuple(views.values()), metrics, clock)
        self._served: ServedLog | None = None
        self._append: _LogAppend | None = None
        if settings.features.served_log:
            self._append = _LogAppend(settings, clock)
            self._served = ServedLog(
                self._append,
                clock,
                recorded=metrics.counter("penstock_served_rows_total", "Rows served with features, recorded."),
                lost=metrics.counter("penstock_served_lost_total", "Rows served with features, not recorded."),
            )

    def filling(self, declared: Declaration, runtime: Runtime) -> Filling | None:
        """How the features of a model fill the inputs of a version; None where it has none.

        Raises `ConfigurationError` where they do not fit.
        """
        features: ModelFeatures | None = declared.features
        if features is None:
            return None
        return filling_of(declared.name, runtime.signature, features.views, features.keys, features.time)

    def served(self, served: ServedModel, filling: Filling) -> ServedModel:
        """The version as its callers see it, who send keys in place of features."""
        store = self._store.reader()
        readers = [
            ViewReader(use.view, store, self._now_ms, self._counts, self._held_bytes) for use in filling.uses
        ]
        runtime = FeatureRuntime(served.runtime, filling, readers, store, self._counts)
        recorder = None
        if self._served is not None:
            topic = served_topic(self._app, served.model)
            recorder = self._served.recorder(topic=topic, version=served.version, filling=filling)
        return replace(
            served,
            runtime=runtime,
            example=None if served.example is None else runtime.example(served.example),
            examine=None if served.examine is None else _of_inner(served.examine, runtime),
            recorder=recorder,
        )

    def problems(self) -> dict[str, str]:
        """Why views could not be read just now."""
        return self._counts.problems()

    def close(self) -> None:
        """Records what is still to be recorded. Blocks."""
        if self._served is not None:
            self._served.close()
        if self._append is not None:
            self._append.close()

    def _now_ms(self) -> int:
        return int(self._clock.now().timestamp() * 1000)


class _LogAppend:
    """Appends to topics of the log, which is opened for the first record. For one thread at a time."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._log: Log | None = None
        self._producer: Producer | None = None
        self._topics: set[str] = set()
        self._lock = threading.Lock()

    def __call__(self, topic: str, records: Records) -> "Future[int]":
        with self._lock:
            if self._log is None:
                self._log = open_from_settings(self._settings, self._clock)
            if self._producer is None:
                self._producer = self._log.producer()
            if topic not in self._topics:
                self._make(self._log, topic)
            return self._producer.append(TopicPartition(topic, 0), records)

    def _make(self, log: Log, topic: str) -> None:
        if topic not in [info.spec.name for info in log.admin.topics()]:
            retention_s = self._settings.features.served_retention_s
            log.admin.ensure_topics([TopicSpec(name=topic, retention_s=retention_s)])
        self._topics.add(topic)

    def close(self) -> None:
        with self._lock:
            if self._producer is not None:
                self._producer.close()
            if self._log is not None:
                self._log.close()


def _of_inner(examine: Examine, runtime: FeatureRuntime) -> Examine:
    """What is known to be right is known of the model itself, all of whose inputs are known."""
    return lambda _: examine(runtime.inner)


def _views(app: App) -> Iterator[FeatureView]:
    for declared in app.declarations:
        if declared.features is not None:
            yield from declared.features.views
