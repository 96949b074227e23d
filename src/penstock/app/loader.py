"""From a declaration to a model that can be served: the version found, checked, loaded and tried out."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from penstock.app.declarations import App
from penstock.app.feature_serving import FeatureServing
from penstock.app.loading import file_version
from penstock.app.model_declarations import CallableDeclaration, Declaration, ModelDeclaration
from penstock.core.clock import Clock
from penstock.core.errors import NotFound
from penstock.core.settings import Settings
from penstock.core.tensors import Tensors, row_count, slice_rows
from penstock.models.golden import Golden, check_golden, declared_golden, examination
from penstock.models.registry.artifacts import FolderArtifactStore
from penstock.models.registry.registry import Registry
from penstock.models.runtimes.native import native_command
from penstock.models.runtimes.onnx import OnnxRuntime
from penstock.models.runtimes.process import ProcessRuntime, WorkerCommand, WorkerGroup
from penstock.models.runtimes.runtime import Examine, Runtime
from penstock.models.version import ModelVersion, RuntimeKind, SourceFormat
from penstock.serving.batching.batcher import BatchingConfig
from penstock.serving.deployment import ServedModel
from penstock.serving.fallback.breaker import BreakerConfig
from penstock.serving.fallback.fitting import constant_answer
from penstock.serving.fallback.rungs import Constant
from penstock.serving.health import HealthConfig

__all__ = ["Loader", "open_registry"]

RUNS_TIMED = 2

_PLATFORMS = {
    SourceFormat.PICKLE: "sklearn",
    SourceFormat.XGBOOST: "xgboost",
    SourceFormat.LIGHTGBM: "lightgbm",
}


def open_registry(settings: Settings) -> Registry:
    """The registry that the settings name. Raises `ConfigurationError` and `StorageFailed`."""
    return Registry.open(settings.database_url, FolderArtifactStore(settings.artifacts_folder))


class Loader:
    """Loads what an app file declares. Its methods block; threads may share it. `features` serve those of its
    models, where any has some.
    """

    def __init__(
        self, app: App, file: Path, settings: Settings, clock: Clock, features: FeatureServing | None = None
    ) -> None:
        self._app = app
        self._file = file
        self._file_version = file_version(file)
        self._settings = settings
        self._clock = clock
        self._features = features
        self._workers = WorkerGroup()
        wanted = settings.server.model_control or any(
            isinstance(declared, ModelDeclaration) for declared in app.declarations
        )
        self._registry = open_registry(settings) if wanted else None

    def close(self) -> None:
        if self._registry is not None:
            self._registry.close()

    def cancel(self) -> None:
        """Ends the processes of what it has loaded and is loading, whose `load` then raises `ModelFailed`.
        Does not block.
        """
        self._workers.end()

    @property
    def has_registry(self) -> bool:
        return self._registry is not None

    @property
    def registry(self) -> Registry:
        """The registry; only where the app declares models of one, or clients may ask for them."""
        assert self._registry is not None, "the app has no models of a registry"
        return self._registry

    def resolve(self, declared: ModelDeclaration) -> ModelVersion:
        """The version that the declaration means now. Raises `NotFound` for what the registry does not have."""
        try:
            if declared.version is not None:
                return self.registry.get(declared.name, declared.version)
            return self.registry.get(declared.name, alias=declared.alias)
        except NotFound as error:
            push = f"to push it: penstock model push {declared.name} FILE --alias {declared.alias}"
            push += f" (the registry in use is in {self._settings.home})"
            raise NotFound(
                f"{self._file}: {error.message}", hint=f"{error.hint}; {push}" if error.hint else push
            ) from None

    def callable_version(self) -> str:
        """What the callables of the app file are the version of."""
        return self._file_version

    def load(self, declared: ModelDeclaration, version: ModelVersion) -> ServedModel:
        """The version, ready to answer, under what was declared of its model.

        Raises `CorruptArtifact` before anything of it is parsed, and `ModelFailed` for a model that does not
        load or fails its golden rows.
        """
        runtime = self._open_runtime(version)
        platform = "onnxruntime" if version.runtime is RuntimeKind.ONNX else _PLATFORMS[version.format]
        return self._tried(declared, str(version.number), platform, runtime, lambda: self._pushed(version))

    def _open_runtime(self, version: ModelVersion) -> Runtime:
        path = self.registry.fetch(version)
        settings = self._settings.runtime
        if version.runtime is RuntimeKind.ONNX:
            digest = version.executable.digest
            return OnnxRuntime(path, version.signature, digest=digest, threads=settings.onnx_threads)
        command = native_command(
            version,
            path,
            threads=1,
            start_timeout_s=settings.start_timeout_s,
            niceness=settings.niceness,
        )
        return ProcessRuntime(command, self._clock, self._workers)

    def _pushed(self, version: ModelVersion) -> Golden | None:
        """The golden rows that were pushed with a version."""
        if version.golden is None:
            return None
        return Golden.decode(self.registry.fetch(version, "golden").read_bytes())

    def _time(self, runtime: Runtime, example: Tensors) -> tuple[tuple[int, float], ...]:
        """How long runs of some sizes take: a server whose first second is a surge has to know."""
        timings = []
        whole = row_count(example)
        for rows in (whole,) if runtime.signature.rows_fixed is not None else sorted({1, whole}):
            tensors = slice_rows(example, 0, rows)
            for _ in range(RUNS_TIMED):
                begun_s = self._clock.monotonic()
                runtime.run(tensors, self._settings.runtime.run_timeout_s)
                timings.append((rows, self._clock.monotonic() - begun_s))
        return tuple(timings)

    def load_callable(self, declared: CallableDeclaration) -> ServedModel:
        """The callable in a process of its own. Raises `ModelFailed` where it does not load."""
        command = WorkerCommand(
            model=declared.name,
            loader="penstock.app.loading:load_callable",
            arguments={
                "file": str(self._file),
                "app": self._app.name,
                "model": declared.name,
                "version": self._file_version,
            },
            start_timeout_s=self._settings.runtime.start_timeout_s,
            niceness=self._settings.runtime.niceness,
        )
        runtime = ProcessRuntime(command, self._clock, self._workers)
        return self._tried(declared, self._file_version, "python", runtime, lambda: None)

    def _tried(
        self,
        declared: Declaration,
        version: str,
        platform: str,
        runtime: Runtime,
        pushed: Callable[[], Golden | None],
    ) -> ServedModel:
        """What is to be served, warm and held against its golden rows, if there are some: those declared, else
        those pushed. The runtime is closed where it fails.
        """
        health = declared.health
        try:
            filling = self._features.filling(declared, runtime) if self._features is not None else None
            for rung in declared.fallback:
                if isinstance(rung, Constant):
                    constant_answer(declared.name, runtime.signature, rung)
            golden = pushed()
            if health.inputs is not None and health.outputs is not None:
                golden = declared_golden(declared.name, runtime.signature, health.inputs, health.outputs)
            examine = self._examination(declared, runtime, golden)
            timings = self._time(runtime, golden.inputs) if golden is not None else ()
        except BaseException:
            runtime.close()
            raise
        example = golden.inputs if golden is not None else None
        served = self._served(declared, version, platform, runtime)
        served = replace(served, example=example, timings=timings, examine=examine)
        if self._features is None or filling is None:
            return served
        return self._features.served(served, filling)

    def _examination(self, declared: Declaration, runtime: Runtime, golden: Golden | None) -> Examine | None:
        """Tries the runtime on its golden rows; what does so again."""
        if golden is None:
            return None
        timeout_s = self._settings.runtime.run_timeout_s
        check_golden(runtime, golden, model=declared.name, timeout_s=timeout_s)
        latency_ms = declared.health.latency_ms
        latency_s = None if latency_ms is None else latency_ms / 1000
        examine = examination(
            golden, self._clock, model=declared.name, timeout_s=timeout_s, latency_s=latency_s
        )
        if latency_s is not None:
            for _ in examine(runtime) or ():  # it is warm by now
                pass
        return examine

    def _health(self, declared: Declaration) -> HealthConfig | None:
        settings, health = self._settings.health, declared.health
        every_s = settings.every_s if health.every_s is None else health.every_s
        if every_s == 0:
            return None
        return HealthConfig(
            every_s=every_s,
            failures_max=health.failures or settings.failures_max,
            runtime_share=settings.runtime_share,
            timeout_s=self._settings.runtime.run_timeout_s,
        )

    def _served(
        self,
        declared: Declaration,
        version: str,
        platform: str,
        runtime: Runtime,
    ) -> ServedModel:
        settings = self._settings.batching
        breaker = declared.breaker
        if breaker is None and declared.fallback:
            breaker = BreakerConfig()
        return ServedModel(
            model=declared.name,
            version=version,
            platform=platform,
            runtime=runtime,
            fallback=declared.fallback,
            breaker=breaker,
            health=self._health(declared),
            batching=BatchingConfig(
                objective_s=declared.objective.latency_ms / 1000,
                run_timeout_s=self._settings.runtime.run_timeout_s,
                rows_max=declared.batch_rows_max or settings.rows_max,
                queue_rows_max=settings.queue_rows_max,
                queue_bytes_max=settings.queue_bytes_max,
            ),
            cache=declared.cache.config if declared.cache is not None else None,
        )
