"""What an app declares of its streams: where events come from, what is done to them, and where results go.

Nodes name the nodes before them; `topology` makes stages of them.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import polars as pl

from penstock.core.errors import ConfigurationError, shown
from penstock.features.online import OnlineStore
from penstock.streams.branching import Branches
from penstock.streams.decoding.event_times import DAY_MS
from penstock.streams.decoding.formats import Format
from penstock.streams.expectations import Expectations
from penstock.streams.feeds.reading import FeedSource
from penstock.streams.operator import OperatorConfig, TwoInputConfig
from penstock.streams.plan import MAIN
from penstock.streams.schema import StreamSchema
from penstock.streams.sinks import Sink, TopicSink
from penstock.streams.transforming import Transform, TransformConfig

__all__ = [
    "Branched",
    "From",
    "Graph",
    "Joined",
    "Keyed",
    "Node",
    "Operated",
    "Sent",
    "Source",
    "Transformed",
    "plain_name",
    "sources_of",
]


_NAME = re.compile(r"\w[\w .-]*")
"""It is part of the names of topics and folders."""
_UNNAMED = re.compile(r"step \d+")


@dataclass(frozen=True)
class From:
    """A port of a node."""

    node: "Node"
    port: str = MAIN


@dataclass(kw_only=True, eq=False)
class Node:
    """`schemas` are the user's columns of what comes out, by port. `key` are the columns by whose values rows
    are shared out over partitions, as far as that is known of this node; empty where it is not.
    """

    schemas: Mapping[str, pl.Schema]
    key: tuple[str, ...] = ()


@dataclass(kw_only=True, eq=False)
class Source(Node):
    """Events of a topic. `partitions` None: as many as the topic has, or one where there is none yet."""

    name: str
    topic: str
    schema: StreamSchema
    form: Format = "json"
    lateness_ms: int = 0
    idle_ms: int | None = None
    ahead_ms: int = DAY_MS
    """How far in the future an event's time may be."""
    expectations: Expectations | None = None
    partitions: int | None = None
    retention_s: float | None = None
    table: bool = False
    """A record without a value says that its key is gone."""
    fed_by: FeedSource | None = None
    """What brings its events into the topic; None: whoever produces there."""
    made_of: "From | None" = None
    """What Penstock itself fills the topic from, partition by partition; None where it is the user's."""


@dataclass(kw_only=True, eq=False)
class Transformed(Node):
    """Without state. `changes` are the columns that it adds or changes where it leaves all rows where they are,
    and all other columns; None where it may do more than that.
    """

    parent: From
    transform: Transform
    changes: frozenset[str] | None = None
    config: TransformConfig | None = None
    """What the transform is made of, where that is known."""


@dataclass(kw_only=True, eq=False)
class Branched(Node):
    """A port for each branch."""

    parent: From
    branches: Branches


@dataclass(kw_only=True, eq=False)
class Operated(Node):
    """By an operator with state by `by`, under a name of its own."""

    name: str
    parent: From
    config: OperatorConfig
    by: tuple[str, ...]


@dataclass(kw_only=True, eq=False)
class Keyed(Node):
    """The same rows, those of a key in the same partition."""

    parent: From
    partitions: int | None = None


@dataclass(kw_only=True, eq=False)
class Joined(Node):
    """Two inputs, by columns of each that are compared in their order."""

    name: str
    left: From
    right: From
    left_by: tuple[str, ...]
    right_by: tuple[str, ...]
    config: TwoInputConfig


def plain_name(name: str) -> str:
    """The name with what topics can have in theirs."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)


def sources_of(origin: From) -> Iterator[Source]:
    """All that the rows there come from."""
    match origin.node:
        case Source():
            yield origin.node
        case Joined():
            yield from sources_of(origin.node.left)
            yield from sources_of(origin.node.right)
        case Transformed() | Branched() | Operated() | Keyed():
            yield from sources_of(origin.node.parent)


@dataclass(frozen=True, kw_only=True)
class Sent:
    """What comes out of a port goes to a sink."""

    name: str
    parent: From
    sink: Sink


@dataclass
class Graph:
    """All of an app. Names of sources, operators and outputs are its own."""

    app: str
    sources: dict[str, Source] = field(default_factory=dict)
    operated: dict[str, Operated | Joined] = field(default_factory=dict)
    outputs: dict[str, Sent] = field(default_factory=dict)
    online: OnlineStore | None = None
    """Where what is known of keys now is kept; whoever works on the graph says it."""

    def add_source(self, source: Source) -> None:
        """Raises `ConfigurationError` for a second one of a name or topic, and for names that cannot be."""
        if not _NAME.fullmatch(source.name):
            raise ConfigurationError(
                f"app {self.app!r}: a stream cannot be called {shown(source.name)}",
                hint="it has letters, digits, spaces and the signs . _ - and begins with a letter or digit",
            )
        if source.name in self.sources:
            raise ConfigurationError(
                f"app {self.app!r} declares stream {source.name!r} twice",
                hint="declare it once; a stream can be used as often as you like",
            )
        for other in self.sources.values():
            if other.topic == source.topic:
                raise ConfigurationError(
                    f"app {self.app!r}: streams {other.name!r} and {source.name!r} both read {source.topic!r}",
                    hint="declare it once; a stream can be used as often as you like",
                )
        self.sources[source.name] = source

    def add_operated(self, node: Operated | Joined) -> None:
        if _UNNAMED.fullmatch(node.name):
            raise ConfigurationError(
                f"app {self.app!r}: a step cannot be called {node.name!r}", hint="those without a name are"
            )
        if node.name in self.operated:
            raise ConfigurationError(
                f"app {self.app!r} has two steps {node.name!r}",
                hint="tell them apart by name=..., under which their state is kept",
            )
        self.operated[node.name] = node

    def add_output(self, sent: Sent) -> None:
        if sent.name in self.outputs:
            raise ConfigurationError(
                f"app {self.app!r} has two outputs {sent.name!r}", hint="tell them apart by name=..."
            )
        self.outputs[sent.name] = sent

    def check_loops(self) -> None:
        """Raises `ConfigurationError` where events would come back to a topic that they came from."""
        sent = sorted(
            (topic, each.sink.topic)
            for each in self.outputs.values()
            if isinstance(each.sink, TopicSink)
            for topic in {source.topic for source in sources_of(each.parent)}
        )
        for begin in sorted(source.topic for source in self.sources.values()):
            ways = {begin: [begin]}
            for _ in self.sources:
                for topic, target in sent:
                    if topic in ways and target == begin:
                        raise ConfigurationError(
                            f"app {self.app!r} sends events to {begin!r}, which it reads: they would go round "
                            f"for ever, {' → '.join((*ways[topic], begin))}",
                            hint="send them to another topic",
                        )
                    if topic in ways and target not in ways:
                        ways[target] = [*ways[topic], target]

    @property
    def unused(self) -> list[str]:
        """The names of streams and tables of which nothing goes anywhere."""
        used = {source.name for sent in self.outputs.values() for source in sources_of(sent.parent)}
        return [name for name in self.sources if name not in used]

    @property
    def empty(self) -> bool:
        return not self.sources
