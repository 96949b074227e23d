"""Models that score streams: loaded in a stream worker as they are in a serving one, and asked by its engine.

The versions, their swaps, health checks and ladders are those of requests; there is nobody to be refused, as a
stream waits.
"""

import asyncio
import logging
from collections.abc import Collection, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec
import polars as pl

from penstock.app.declarations import App
from penstock.app.late_scorer import ScoredInputs
from penstock.app.loader import Loader
from penstock.app.model_declarations import CallableDeclaration, Declaration, ModelDeclaration
from penstock.app.objectives import Objective
from penstock.app.reconciler import Reconciler
from penstock.app.scored_columns import series_of, tensors_of
from penstock.app.scored_features import FilledInputs, ScoredFeatures
from penstock.core.calling import DEFAULT_CRITICALITY
from penstock.core.clock import Clock
from penstock.core.errors import (
    DeadlineExceeded,
    PenstockError,
    Refused,
    StorageFailed,
)
from penstock.core.settings import Settings
from penstock.core.signature import Signature
from penstock.core.tensors import Tensors, row_count, slice_rows
from penstock.models.version import ModelVersion
from penstock.observe.metrics import MetricSet
from penstock.serving.batching.outputs import BatchRows
from penstock.serving.deployment import Deployment, ServedModel
from penstock.serving.fallback.rungs import Backup
from penstock.serving.features.filling import filling_of
from penstock.serving.inference import Inference
from penstock.serving.plane import DataPlane
from penstock.streams.scoring import Inputs, Scores
from penstock.supervision.messages import Wanted

__all__ = ["ModelScorer", "ScoringModels"]

log = logging.getLogger(__name__)

CHECK_EVERY_S = 1.0
NO_FEATURES: Final = FilledInputs({}, {})
ANSWER_SHARE = 0.5
"""Of the time that a batch may take: then its rows wait, and the engine is not taken for one that hangs."""


class ScoringModels:
    """The models that an app's streams are scored by, and those that stand in for them. In the event loop."""

    def __init__(self, app: App, file: Path, settings: Settings, metrics: MetricSet, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._scored = tuple(app.streams.scorer.declared)
        scoring = app.only([_without_promises(each, settings) for each in self._declarations(app)])
        # Their measures are of batches, not of requests: counted apart.
        self._plane = DataPlane(MetricSet(), clock, sheds=False)
        self._loader = _ScoringLoader(scoring, file, settings, clock, self._scored)
        self._reconciler = Reconciler(scoring, self._loader, self._plane, settings, clock)
        self.scorer = ModelScorer(self._plane, metrics, settings, clock)
        for each in scoring.declarations:
            if each.features is not None:
                self.scorer.features[each.name] = ScoredFeatures(each.name, each.features, metrics)
        app.streams.scorer.bind(self.scorer)
        self._following: asyncio.Future[None] | None = None
        self._checking: asyncio.Future[None] | None = None

    def _declarations(self, app: App) -> list[Declaration]:
        declared = {each.name: each for each in app.declarations}
        wanted = dict.fromkeys(self.models)
        for model in self.models:
            wanted |= dict.fromkeys(rung.name for rung in declared[model].fallback if isinstance(rung, Backup))
        return [declared[model] for model in wanted]

    @property
    def models(self) -> frozenset[str]:
        """Those that score."""
        return frozenset(each.model for each in self._scored)

    async def start(self) -> None:
        """Loads them. Raises the first error that there is."""
        self.scorer.loop = asyncio.get_running_loop()
        await self._reconciler.start(Wanted(), {})
        self._plane.accept()
        self._following = asyncio.ensure_future(self._reconciler.run(self._settings.registry.poll_s))
        self._checking = asyncio.ensure_future(self._check_for_ever())

    @property
    def faults(self) -> dict[str, str]:
        """By model: why it scores nothing at the moment."""
        return self._plane.faults()

    @property
    def problems(self) -> dict[str, str]:
        """By model: why what is wanted of it is not what scores."""
        return self.faults | self._reconciler.problems

    def lines(self) -> list[str]:
        return [
            f"  {each.model}  version {each.version}  on {each.platform}, scores streams"
            for each in self._plane.deployments()
            if each.model in self.models
        ]

    async def close(self) -> None:
        """The engine has ended."""
        for task in (self._following, self._checking):
            if task is not None:
                task.cancel()
        await self._plane.close()
        await self._reconciler.close()
        self._loader.close()

    async def _check_for_ever(self) -> None:
        while True:
            await asyncio.sleep(CHECK_EVERY_S)
            try:
                self._plane.check()
            except Exception:
                log.exception("a look at models that score streams")


class ModelScorer:
    """Asks the models for the thread of an engine."""

    def __init__(
        self,
        plane: DataPlane,
        metrics: MetricSet,
        settings: Settings,
        clock: Clock,
    ) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self._plane = plane
        self._metrics = metrics
        self._timeout_s = settings.stream.function_timeout_s * ANSWER_SHARE
        self._monotonic = clock.monotonic
        self.features: dict[str, ScoredFeatures] = {}
        """Of models that have some."""
        self._good: dict[str, Tensors] = {}
        """A row of each model that it has answered."""

    def score(self, model: str, frame: pl.DataFrame, inputs: Inputs, wanted: Collection[str]) -> Scores:
        """See `Scorer`."""
        deployment = self._deployment(model)
        signature = deployment.signature
        features = self.features.get(model)
        filled = NO_FEATURES if features is None else features.filled(frame, signature, inputs)
        tensors = tensors_of(frame, signature, inputs, filled.tensors)
        rows = self._asked(deployment, tensors)
        if features is not None:
            features.count(filled.misfits)
        self._good[model] = slice_rows(tensors, 0, 1)
        outputs = rows.outputs
        series = {
            spec.name: series_of(spec.name, outputs.tensors[spec.name][rows.start : rows.stop])
            for spec in signature.outputs
            if spec.name in wanted
        }
        return Scores(outputs=series, version=outputs.version or deployment.version, rung=outputs.rung or None)

    def answers(self, model: str) -> bool | None:
        """See `Scorer`."""
        deployment = self._plane.default(model)
        if deployment is None or deployment.fault is not None:
            return False
        proven = deployment.example if deployment.example is not None else self._good.get(model)
        if proven is None or row_count(proven) == 0:
            return None
        try:
            self._asked(deployment, slice_rows(proven, 0, 1))
        except PenstockError:
            return False
        return True

    def _deployment(self, model: str) -> Deployment:
        deployment = self._plane.default(model)
        if deployment is None:
            raise StorageFailed(f"no version of model {model!r} is loaded", hint="its rows wait until one is")
        return deployment

    def _asked(self, deployment: Deployment, tensors: Tensors) -> BatchRows:
        """Blocks until the rows are answered. Raises `StorageFailed` where the model takes nobody's, and
        `DeadlineExceeded` where it takes too long for so many.
        """
        assert self.loop is not None, "models are loaded before the engine starts"
        model = deployment.model
        asking: Future[BatchRows] = asyncio.run_coroutine_threadsafe(self._ask(deployment, tensors), self.loop)
        try:
            return asking.result()
        except DeadlineExceeded as error:
            raise DeadlineExceeded(
                f"model {model!r} did not answer {row_count(tensors)} rows within {self._timeout_s:g} s"
            ) from error
        except (Refused, CancelledError) as error:
            raise StorageFailed(
                f"model {model!r} does not answer: {error}", hint="its rows wait until it does"
            ) from error

    async def _ask(self, deployment: Deployment, tensors: Tensors) -> BatchRows:
        now_s = self._monotonic()
        answer = deployment.infer(
            Inference(
                tensors,
                now_s,
                now_s + self._timeout_s,
                criticality=DEFAULT_CRITICALITY,
                admitted=True,
                weighed=True,
                falls_back=True,
            )
        )
        rows = await answer.future
        labels = {
            "model": deployment.model,
            "version": deployment.version,
            "rung": rows.outputs.rung or "model",
        }
        self._metrics.counter(
            "penstock_stream_scored_rows_total", "Rows of streams that a model scored.", **labels
        ).value += rows.stop - rows.start
        return rows


class _ScoringLoader(Loader):
    """Loads only what the streams' columns fit."""

    def __init__(
        self,
        app: App,
        file: Path,
        settings: Settings,
        clock: Clock,
        scored: Sequence[ScoredInputs],
    ) -> None:
        super().__init__(app, file, settings, clock)
        self._scored = scored
        self._rows_max = 2 * settings.stream.rows_max

    def load(self, declared: ModelDeclaration, version: ModelVersion) -> ServedModel:
        self._check(declared, version.signature)
        return self._for_frames(super().load(declared, version))

    def load_callable(self, declared: CallableDeclaration) -> ServedModel:
        self._check(declared, declared.signature)
        return self._for_frames(super().load_callable(declared))

    def _for_frames(self, served: ServedModel) -> ServedModel:
        """A frame is one request, and whole: the size of micro-batches is the engine's to choose."""
        rows_max = self._rows_max
        batching = msgspec.structs.replace(
            served.batching, splits=False, rows_max=rows_max, queue_rows_max=rows_max, queue_bytes_max=1 << 40
        )
        return replace(served, batching=batching)

    def _check(self, declared: Declaration, signature: Signature) -> None:
        for scored in self._scored:
            if scored.model == declared.name:
                scored.check(signature)
        features = declared.features
        if features is not None and declared.name in {scored.model for scored in self._scored}:
            # As requests have it; and so that no frame finds out.
            filling_of(declared.name, signature, features.views, features.keys, features.time)


def _without_promises(declared: Declaration, settings: Settings) -> Declaration:
    """As streams are scored by it: nobody waits for an answer, and a rung may take as long as a batch."""
    objective = Objective(latency_ms=1000 * ANSWER_SHARE * settings.stream.function_timeout_s)
    return msgspec.structs.replace(declared, objective=objective, cache=None)
