"""Where results can be sent, as an app names it."""

from dataclasses import dataclass
from typing import Protocol

from penstock.features.online import OnlineStore
from penstock.streams.decoding.formats import Format
from penstock.streams.outputs import OutputConfig, TopicOutput

__all__ = ["OutputPlace", "Sink", "TopicSink", "Topics"]


class Topics(Protocol):
    """Collects the topics that there have to be."""

    def need(self, name: str, partitions: int | None, retention_s: float | None = None) -> int: ...


@dataclass(frozen=True, kw_only=True)
class OutputPlace:
    """Where in an app an output stands."""

    app: str
    stage: str
    output: str
    topics: Topics
    partitions: int
    """Those of the stage."""
    online: OnlineStore | None = None
    """Where what is known of keys now is kept; None where nothing is worked on, only planned."""


class Sink(Protocol):
    """What makes an output's config."""

    @property
    def title(self) -> str:
        """What it is called where an output has no name of its own."""
        ...

    def output(self, place: OutputPlace) -> OutputConfig:
        """Raises `ConfigurationError` where it cannot be."""
        ...


@dataclass(frozen=True, kw_only=True)
class TopicSink:
    """A topic, a record a row. Rows that are alike in the `key` columns keep their order."""

    topic: str
    key: tuple[str, ...] = ()
    partitions: int | None = None
    format: Format = "json"

    @property
    def title(self) -> str:
        return self.topic

    def output(self, place: OutputPlace) -> OutputConfig:
        partitions = place.topics.need(self.topic, self.partitions)
        return TopicOutput(topic=self.topic, partitions=partitions, key=self.key, format=self.format)
