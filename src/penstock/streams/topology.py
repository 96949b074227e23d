"""From what an app declares of its streams to stages and topics.

A stage is all that is done to a topic's events without moving them: where a key needs rows of several
partitions together, they cross through a topic of Penstock's own, and another stage begins. All names come from
the app's, so that they are the same when it is started again.
"""

from collections.abc import Container, Mapping
from dataclasses import dataclass, field

from penstock.core.errors import ConfigurationError
from penstock.log.port import TopicSpec
from penstock.streams.dead_letters import dead_topic
from penstock.streams.event_intake import EventIntakeConfig
from penstock.streams.feeds.plan import FeedPlan
from penstock.streams.feeds.reading import FeedSource
from penstock.streams.frame_intake import LEFT, RIGHT, FrameIntakeConfig
from penstock.streams.graph import (
    Branched,
    From,
    Graph,
    Joined,
    Keyed,
    Node,
    Operated,
    Source,
    Transformed,
    plain_name,
)
from penstock.streams.intake import IntakeConfig
from penstock.streams.outputs import StageOutput
from penstock.streams.plan import (
    AnyStep,
    BranchStep,
    JoinStep,
    Output,
    Port,
    StagePlan,
    Step,
    TransformStep,
    is_made,
)
from penstock.streams.sinks import OutputPlace, TopicSink
from penstock.streams.watermark import WatermarkConfig

__all__ = ["Topology", "topology"]

PARTITIONS_MAX = 1024


@dataclass(frozen=True, kw_only=True)
class Topology:
    """An app's stages, and the topics that there have to be."""

    stages: tuple[StagePlan, ...]
    topics: tuple[TopicSpec, ...]
    feeds: tuple[FeedPlan, ...] = ()

    def wanted(self, existing: Container[str]) -> list[TopicSpec]:
        """The topics to be made or changed. Without a retention of its own an app leaves that of a topic
        which is there to whoever made it.
        """
        return [spec for spec in self.topics if spec.name not in existing or spec.retention_s is not None]

    @property
    def by_source(self) -> dict[str, StagePlan]:
        return {stage.source: stage for stage in self.stages}


@dataclass
class _Draft:
    """A stage as far as it is known."""

    name: str
    source: str
    partitions: int
    intake: IntakeConfig
    events: Source
    """Where its rows are from in the end; of a join those of the left."""
    steps: list[AnyStep] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)

    @property
    def internal(self) -> bool:
        return self.source != self.events.topic

    @property
    def own(self) -> bool:
        """Whether its source is a topic of Penstock's own."""
        return self.internal or self.events.made_of is not None

    def crossing(self, port: Port, topic: str, partitions: int, key: tuple[str, ...], side: str) -> StageOutput:
        """What sends the rows of a port to the next stage."""
        return StageOutput(
            topic=topic,
            partitions=partitions,
            input=side,
            key=key,
            first=not self.internal,
            made=is_made(port, self.steps),
        )


def topology(graph: Graph, existing: Mapping[str, int]) -> Topology:
    """`existing` are the topics that there are already, with their partitions.

    Raises `ConfigurationError` where a topic has another number of partitions than is declared, or is used
    for two things.
    """
    return _Builder(graph, existing).build()


class _Builder:
    def __init__(self, graph: Graph, existing: Mapping[str, int]) -> None:
        self._graph = graph
        self._existing = existing
        self._drafts: dict[str, _Draft] = {}
        self._specs: dict[str, TopicSpec] = {}
        self._placed: dict[int, tuple[_Draft, Port]] = {}
        self._crossed: dict[tuple[int, str, tuple[str, ...], int], tuple[_Draft, Port]] = {}
        self._changes: dict[str, str] = {}
        """Topics of changes, by them the source of the stage that has each."""
        self._feeds: dict[str, FeedPlan] = {}
        self._nodes: list[Node] = []
        """Kept, so that no two of them have one identity."""

    def build(self) -> Topology:
        for source in self._graph.sources.values():
            self._place(source)
        for node in self._graph.operated.values():
            self._place(node)
        for sent in self._graph.outputs.values():
            draft, port = self._at(sent.parent)
            place = OutputPlace(
                app=self._graph.app,
                stage=draft.name,
                output=sent.name,
                topics=self,
                partitions=draft.partitions,
                online=self._graph.online,
            )
            draft.outputs.append(Output(name=sent.name, config=sent.sink.output(place), after=port))
        self._graph.check_loops()
        stages = tuple(self._plan(draft) for draft in self._drafts.values())
        return Topology(stages=stages, topics=tuple(self._specs.values()), feeds=tuple(self._feeds.values()))

    # Topics

    def need(self, name: str, partitions: int | None, retention_s: float | None = None) -> int:
        """That there has to be such a topic; the number of its partitions."""
        there = self._existing.get(name)
        spec = self._specs.get(name)
        if partitions is not None and not 1 <= partitions <= PARTITIONS_MAX:
            raise ConfigurationError(
                f"topic {name!r} cannot have {partitions} partitions", hint=f"1 to {PARTITIONS_MAX} can be had"
            )
        known = there if there is not None else spec.partitions if spec is not None else None
        if known is not None and partitions not in (None, known):
            raise ConfigurationError(
                f"topic {name!r} has {known} partitions, and {partitions} are wanted",
                hint=f"declare partitions={known}, or read a copy, in which keys have other partitions:"
                f" `penstock log replay {name} --from begin --into OTHER --partitions {partitions}`",
            )
        count = known if known is not None else partitions if partitions is not None else 1
        kept_s = retention_s if retention_s is not None else spec.retention_s if spec is not None else None
        self._specs[name] = TopicSpec(name=name, partitions=count, retention_s=kept_s)
        return count

    # Nodes

    def _at(self, parent: From) -> tuple[_Draft, Port]:
        draft, port = self._place(parent.node)
        return draft, Port(port.step, parent.port or port.name)

    def _place(self, node: Node) -> tuple[_Draft, Port]:
        found = self._placed.get(id(node))
        if found is None:
            found = self._placed[id(node)] = self._placed_anew(node)
            self._nodes.append(node)
        return found

    def _placed_anew(self, node: Node) -> tuple[_Draft, Port]:
        match node:
            case Source():
                return self._source(node), Port()
            case Transformed():
                draft, port = self._at(node.parent)
                name = f"step {len(draft.steps) + 1}"
                draft.steps.append(TransformStep(name=name, transform=node.transform, after=port))
            case Branched():
                draft, port = self._at(node.parent)
                name = f"step {len(draft.steps) + 1}"
                draft.steps.append(BranchStep(name=name, branches=node.branches, after=port))
            case Operated():
                draft, port = self._keyed(node.parent, node.by)
                name = node.name
                draft.steps.append(Step(name=name, config=node.config, after=port))
            case Keyed():
                return self._cross(node.parent, node.key, node.partitions)
            case Joined():
                draft, name = self._join(node), node.name
            case _:
                raise AssertionError(f"{node!r} is no kind of node")
        return draft, Port(name)

    def _source(self, source: Source) -> _Draft:
        declared = source.partitions
        if source.made_of is not None:
            declared = self._at(source.made_of)[0].partitions
        partitions = self.need(source.topic, declared, source.retention_s)
        intake = EventIntakeConfig(
            stage=source.name,
            schema=source.schema,
            form=source.form,
            watermark=WatermarkConfig(lateness_ms=source.lateness_ms, idle_ms=source.idle_ms),
            expectations=source.expectations,
            ahead_ms=source.ahead_ms,
            table_key=source.key if source.table else (),
        )
        if source.fed_by is not None:
            self._feed(source, source.fed_by, partitions)
        return self._draft(source.name, source.topic, partitions, intake, source)

    def _feed(self, source: Source, fed_by: FeedSource, partitions: int) -> None:
        if partitions > 1 and not source.key:
            raise ConfigurationError(
                f"stream {source.name!r}, fed from {fed_by.title} into {partitions} partitions, has no key",
                hint="say by key= which rows keep their order",
            )
        name = f"{plain_name(self._graph.app)}.{plain_name(source.name)}.feed"
        self.need(name, 1)
        self._feeds[name] = FeedPlan(
            name=source.name,
            topic=name,
            target=source.topic,
            partitions=partitions,
            key=source.key,
            format=source.form,
            columns=dict(source.schema.columns),
            source=fed_by,
        )

    def _draft(self, name: str, topic: str, partitions: int, intake: IntakeConfig, events: Source) -> _Draft:
        draft = _Draft(name, topic, partitions, intake, events)
        if topic in self._drafts:
            raise ConfigurationError(
                f"app {self._graph.app!r}: two stages would read topic {topic!r}",
                hint="name streams and steps so that they differ in more than signs and spaces",
            )
        self._drafts[topic] = draft
        return draft

    def _keyed(self, parent: From, by: tuple[str, ...]) -> tuple[_Draft, Port]:
        """Where all rows that are alike in `by` are in one partition: here, or in a stage behind a topic."""
        draft, port = self._at(parent)
        together = parent.node.key and set(parent.node.key) <= set(by)
        if draft.partitions == 1 or together:
            return draft, port
        return self._cross(parent, by, None)

    def _cross(self, parent: From, by: tuple[str, ...], partitions: int | None) -> tuple[_Draft, Port]:
        draft, port = self._at(parent)
        count = partitions if partitions is not None else draft.partitions
        known = (id(parent.node), parent.port, by, count)
        if known not in self._crossed:
            at = f".{plain_name(port.step)}" if port.step else ""
            name = f"{draft.name}{at}.by.{plain_name('.'.join(by))}"
            topic = f"{plain_name(self._graph.app)}.{name}"
            count = self.need(topic, count)
            output = draft.crossing(port, topic, count, by, "")
            draft.outputs.append(Output(name=f"to {name}", config=output, after=port))
            intake = FrameIntakeConfig(inputs={"": draft.partitions}, stage=name)
            self._crossed[known] = (self._draft(name, topic, count, intake, draft.events), Port())
        return self._crossed[known]

    def _join(self, node: Joined) -> _Draft:
        """Both sides come through one topic: their order in it is what a restart goes through again."""
        left, left_port = self._at(node.left)
        right, right_port = self._at(node.right)
        topic = f"{plain_name(self._graph.app)}.{plain_name(node.name)}"
        count = self.need(topic, max(left.partitions, right.partitions))
        for draft, port, side, by in (
            (left, left_port, LEFT, node.left_by),
            (right, right_port, RIGHT, node.right_by),
        ):
            output = draft.crossing(port, topic, count, by, side)
            draft.outputs.append(Output(name=f"to {side} of {node.name}", config=output, after=port))
        name = plain_name(node.name)
        intake = FrameIntakeConfig(inputs={LEFT: left.partitions, RIGHT: right.partitions}, stage=name)
        joining = self._draft(name, topic, count, intake, left.events)
        joining.steps.append(
            JoinStep(name=node.name, config=node.config, left=Port(name=LEFT), right=Port(name=RIGHT))
        )
        return joining

    def _plan(self, draft: _Draft) -> StagePlan:
        prefix = f"{plain_name(self._graph.app)}.{plain_name(draft.name)}"
        changes = f"{prefix}.changes"
        self._own(draft, changes)
        self.need(changes, draft.partitions)
        self.need(dead_topic(draft.source), None)
        return StagePlan(
            name=draft.name,
            source=draft.source,
            partitions=draft.partitions,
            internal=draft.internal,
            passing=draft.own,
            intake=draft.intake,
            steps=tuple(draft.steps),
            outputs=tuple(draft.outputs),
            changes_topic=changes,
            events_topic=draft.events.topic,
            events_form=draft.events.form,
        )

    def _own(self, draft: _Draft, changes: str) -> None:
        """That nobody else has what only this stage may write to and read."""
        other = self._changes.setdefault(changes, draft.source)
        taken = {sent.sink.title for sent in self._graph.outputs.values() if isinstance(sent.sink, TopicSink)}
        if other != draft.source:
            raise ConfigurationError(
                f"app {self._graph.app!r}: the stages that read {other!r} and {draft.source!r} would keep their"
                f" state in one topic, {changes!r}",
                hint="name streams and steps so that they differ in more than signs and spaces",
            )
        for topic in (changes, draft.source) if draft.own else (changes,):
            if topic in taken:
                raise ConfigurationError(
                    f"app {self._graph.app!r} sends events to {topic!r}, which is Penstock's own",
                    hint="send them to another topic",
                )
