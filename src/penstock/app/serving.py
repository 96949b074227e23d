"""The `serve` process: an app's models behind the HTTP server, from start to drain."""

import asyncio
import contextlib
import gc
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

from penstock.app.declarations import App
from penstock.app.loader import Loader
from penstock.core.clock import Clock
from penstock.core.errors import ConfigurationError, Forbidden
from penstock.core.settings import Settings
from penstock.observe.metrics import MetricSet
from penstock.observe.process import add_process_metrics
from penstock.serving.deployment import ServedModel
from penstock.serving.instance import RepositoryEntry
from penstock.serving.plane import DataPlane
from penstock.serving.protocols.http.application import HttpApplication, HttpConfig
from penstock.serving.server import HttpServer
from penstock.serving.statistics import DeploymentStatistics

__all__ = ["Reporter", "serve"]

Reporter = Callable[[str], None]
"""Is told, a line at a time, what a person who watches wants to know."""

# Each request makes some dozen short-lived objects, and Python looks for cycles among them every 700. Requests
# make none (errors lose their tracebacks for that). Looking rarely saves an eighth of a small request's time.
YOUNG_OBJECTS_MAX = 20_000


async def serve(
    app: App, file: Path, settings: Settings, *, clock: Clock, version: str, report: Reporter
) -> None:
    """Serves the app's models until SIGINT or SIGTERM, then finishes what was taken on and returns.

    A second signal ends the process at once. Raises `PenstockError` where a model cannot be loaded or the
    address is taken.
    """
    if not app.declarations:
        raise ConfigurationError(
            f"{file}: app {app.name!r} declares no models", hint='add one: app.model("name")'
        )
    stop = _stop_on_signals()
    metrics = MetricSet()
    add_process_metrics(metrics)
    plane = DataPlane(metrics, clock)
    config = HttpConfig(
        name="penstock",
        version=version,
        request_timeout_s=settings.server.request_timeout_s,
    )
    instance = _LocalInstance(plane, metrics)
    server = HttpServer(HttpApplication(plane, instance, metrics, config), settings.server, clock, metrics)
    server.bind()  # before models are loaded, which may take long
    try:
        for served in await _load_until(stop, Loader(app, file, settings, clock), app):
            plane.add(served)
            report(f"  {served.model}  version {served.version}  on {served.platform}")
        if not stop.is_set():
            await server.start()
            plane.accept()
            gc.collect()
            gc.freeze()
            gc.set_threshold(YOUNG_OBJECTS_MAX, 20, 50)
            report(f"listening on {server.url}  (Ctrl-C stops)")
            await stop.wait()
            report("stopping: finishing the requests that were taken on")
    finally:
        plane.refuse()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(settings.server.drain_s):
                await server.stop()
                await plane.close()
        server.abort()


class _LocalInstance:
    """A serve instance of one process."""

    def __init__(self, plane: DataPlane, metrics: MetricSet) -> None:
        self._plane = plane
        self._metrics = metrics

    @property
    def ready(self) -> bool:
        return self._plane.ready

    async def metrics(self) -> str:
        return self._metrics.render()

    async def statistics(self) -> tuple[DeploymentStatistics, ...]:
        return tuple(each.statistics() for each in self._plane.deployments())

    async def index(self) -> tuple[RepositoryEntry, ...]:
        return ()

    async def load(self, model: str, version: str | None) -> None:
        raise Forbidden(f"cannot load {model}:{version}")

    async def unload(self, model: str, version: str | None) -> None:
        raise Forbidden(f"cannot unload {model}:{version}")


async def _load_until(stop: asyncio.Event, loader: Loader, app: App) -> list[ServedModel]:
    """All declared models, loaded side by side; none when it is told to stop first."""
    loads = [asyncio.ensure_future(asyncio.to_thread(loader.load, declared)) for declared in app.declarations]
    together = asyncio.gather(*loads)
    # Asyncio would tell of an error that nobody looks at, as nobody does once it was told to stop.
    together.add_done_callback(lambda done: done.cancelled() or done.exception())
    stopped = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((together, stopped), return_when=asyncio.FIRST_COMPLETED)
        if not stop.is_set():
            return await together
        await _abandon(loader, loads)
        return []
    except BaseException:
        await _abandon(loader, loads)
        raise
    finally:
        stopped.cancel()
        loader.close()


async def _abandon(loader: Loader, loads: "Sequence[asyncio.Future[ServedModel]]") -> None:
    """Ends what is being loaded, which takes a moment, and frees what was."""
    loader.cancel()
    await asyncio.wait(loads)
    for load in loads:
        if not load.cancelled() and load.exception() is None:
            load.result().runtime.close()


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if stop.is_set():
            os._exit(1)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    return stop
