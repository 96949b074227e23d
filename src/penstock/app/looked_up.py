"""Reads the online store for streams that look features up, once there is a store and somebody who counts."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from penstock.core.clock import Clock
from penstock.features.online import OnlineReader, OnlineStore
from penstock.features.reader import ReadObserver, ViewReader
from penstock.features.view import FeatureView

__all__ = ["LookedUpFeatures"]


class LookedUpFeatures:
    """A `FeatureSource`, bound when a worker starts. `views` are those that are looked up anywhere."""

    def __init__(self) -> None:
        self.views: dict[str, FeatureView] = {}
        self._bound: tuple[OnlineStore, Clock, ReadObserver] | None = None
        self._store: OnlineReader | None = None
        self._readers: dict[str, ViewReader] = {}

    def bind(self, store: OnlineStore, clock: Clock, observer: ReadObserver) -> None:
        self._bound = (store, clock, observer)

    def read(
        self, view: FeatureView, keys: Sequence[Sequence[object]], as_of_ms: npt.NDArray[np.int64]
    ) -> Sequence[npt.NDArray[np.generic]]:
        reading = self._reader(view).read(keys, as_of_ms)
        assert self._bound is not None, "there is a store before the engine starts"
        self._bound[2].read(view, reading)
        return reading.columns

    def _reader(self, view: FeatureView) -> ViewReader:
        """Made by the thread that reads."""
        reader = self._readers.get(view.name)
        if reader is None:
            assert self._bound is not None, "there is a store before the engine starts"
            store, clock, observer = self._bound
            if self._store is None:
                self._store = store.reader()
            reader = ViewReader(view, self._store, lambda: int(clock.now().timestamp() * 1000), observer)
            self._readers[view.name] = reader
        return reader
