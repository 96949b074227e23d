"""`penstock log`: topics, their records, and how far groups are in them."""

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from penstock.cli.log_positions import find_topic, offset_of, partitions_of_topic
from penstock.cli.options import ConfigOption, JsonOption, SetOption, settings_from
from penstock.cli.output import print_json, print_table, print_text, say
from penstock.core.clock import SystemClock
from penstock.core.errors import InvalidInput, NotFound
from penstock.log.records import TopicPartition

if TYPE_CHECKING:
    from penstock.log.port import Log, Producer, TopicInfo
    from penstock.log.records import Records

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="The log of events: topics, records, and groups that read them.")

READ_RECORDS_MAX = 1000
LAST_RECORDS = 10
FOLLOW_S = 0.2
WAITING_MAX = 64
"""Appends that `produce` and `replay` do not wait for yet."""

Topic = Annotated[str, typer.Argument(metavar="TOPIC", help="The topic.")]
PartitionsOption = Annotated[
    int | None, typer.Option(min=1, help="Make the topic, with so many partitions, if there is none.")
]
PartitionOption = Annotated[
    int | None, typer.Option("--partition", "-p", min=0, help="One partition (default: all).")
]


@app.command()
def topics(as_json: JsonOption = False, config: ConfigOption = None, overrides: SetOption = None) -> None:
    """List topics: what they hold, and for how long."""
    with _opened(config, overrides) as log:
        infos = log.admin.topics()
    if as_json:
        print_json(infos)
        return
    print_table(
        ("topic", "partitions", "records", "bytes", "keeps"),
        (
            (
                info.spec.name,
                info.spec.partitions,
                sum(info.ends) - sum(info.begins),
                "-" if info.size_bytes is None else info.size_bytes,
                _kept(info),
            )
            for info in infos
        ),
    )


@app.command()
def tail(  # noqa: PLR0913, PLR0917 - the options of one command
    topic: Topic,
    count: Annotated[
        int | None, typer.Option("-n", "--count", min=0, help="So many records of each partition.")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="WHERE", help="begin, end, an offset, or a time (default: the last 10)."
        ),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is appended.")] = False,
    partition: PartitionOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, a line for each record.")] = False,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Print records: the last of each partition, or those from somewhere on."""
    with _opened(config, overrides) as log:
        info = find_topic(log.admin, topic)
        sources = partitions_of_topic(info, partition)
        if start is None:
            last = LAST_RECORDS if count is None else count
            positions = {each: max(info.ends[each.partition] - last, 0) for each in sources}
        else:
            positions = {each: offset_of(log.admin, info, each, start) for each in sources}
        left = dict.fromkeys(sources, sys.maxsize if count is None or (start is None and follow) else count)
        while True:
            printed = sum(_print_some(log, positions, left, source, as_json) for source in sources)
            if not printed and (not follow or not any(left.values())):
                return
            if not printed:
                threading.Event().wait(FOLLOW_S)


@app.command()
def produce(
    topic: Topic,
    key_field: Annotated[
        str | None, typer.Option(metavar="NAME", help="A field of each line's JSON object that is its key.")
    ] = None,
    partitions: PartitionsOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Append the lines of standard input, a record each. Lines with the same key stay in order."""
    from penstock.cli.log_records import lines_of, records_of

    clock = SystemClock()
    with _opened(config, overrides) as log:
        appends = _Appends(log.producer(), _target(log, topic, partitions))
        count = 0
        for lines in lines_of(sys.stdin.fileno()):
            time_ms = int(clock.now().timestamp() * 1000)
            try:
                records = records_of(lines, time_ms, key_field, count + 1)
            except InvalidInput as error:
                appends.close()
                raise _refused(error, count) from None
            appends.add(records)
            count += len(lines)
        appends.close()
    say(f"{count} records appended to {topic}")


@app.command()
def lag(
    group: Annotated[str | None, typer.Argument(metavar="GROUP", help="A group (default: all).")] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Show how far groups are behind, in each partition."""
    with _opened(config, overrides) as log:
        lags = log.admin.lags(group)
    if group is not None and not lags:
        raise NotFound(f"there is no group {group!r}", hint="`penstock log lag` lists those there are")
    if as_json:
        print_json(
            [
                {
                    "group": each.group,
                    "topic": each.source.topic,
                    "partition": each.source.partition,
                    "committed": each.committed,
                    "end": each.end,
                    "lag": each.lag,
                    "member": each.member,
                }
                for each in lags
            ]
        )
        return
    print_table(
        ("group", "partition", "committed", "end", "lag", "member"),
        ((each.group, each.source, each.committed, each.end, each.lag, each.member) for each in lags),
    )


@app.command()
def replay(  # noqa: PLR0913, PLR0917 - the options of one command
    topic: Topic,
    start: Annotated[str, typer.Option("--from", metavar="WHERE", help="begin, end, an offset, or a time.")],
    group: Annotated[
        str | None, typer.Option(metavar="NAME", help="The group that shall go on there; nobody of it may run.")
    ] = None,
    into: Annotated[str | None, typer.Option(metavar="TOPIC", help="The topic to copy records into.")] = None,
    until: Annotated[
        str | None, typer.Option(metavar="WHERE", help="Where copying ends (default: the end as it is now).")
    ] = None,
    partition: PartitionOption = None,
    partitions: PartitionsOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Let a group read records again, or copy them into another topic."""
    if (group is None) == (into is None):
        raise InvalidInput("say who shall have the records", hint="--group NAME or --into TOPIC, one of them")
    if group is not None and until is not None:
        raise InvalidInput("a group goes on from somewhere, not until somewhere", hint="leave --until out")
    if group is not None and partitions is not None:
        raise InvalidInput("a group makes no topic", hint="leave --partitions out, or say --into TOPIC")
    with _opened(config, overrides) as log:
        info = find_topic(log.admin, topic)
        sources = partitions_of_topic(info, partition)
        begins = {source: offset_of(log.admin, info, source, start) for source in sources}
        if group is not None:
            log.admin.reset(group, begins)
            for source, offset in begins.items():
                say(f"{group} goes on at offset {offset} of {source}")
            return
        assert into is not None, "one of them was given"
        ends = {source: offset_of(log.admin, info, source, until or "end") for source in sources}
        say(f"{_copy(log, begins, ends, _target(log, into, partitions))} records copied into {into}")


class _Appends:
    """Appends by key, a bounded number of them at once."""

    def __init__(self, producer: "Producer", info: "TopicInfo") -> None:
        self._producer = producer
        self._topic = info.spec.name
        self._partitions = info.spec.partitions
        self._waiting: list[Future[int]] = []
        self._turn = 0

    def add(self, records: "Records") -> None:
        """Raises what the log refuses an earlier append with."""
        from penstock.log.partitioning import split_by_partition

        for number, part in split_by_partition(records, self._partitions, first=self._turn):
            self._waiting.append(self._producer.append(TopicPartition(self._topic, number), part))
        self._turn = (self._turn + len(records)) % self._partitions
        while len(self._waiting) > WAITING_MAX:
            self._waiting.pop(0).result()

    def close(self) -> None:
        for future in self._waiting:
            future.result()
        self._producer.close()


def _refused(error: InvalidInput, appended: int) -> InvalidInput:
    """Of a line of events that are appended together: with what has become of the others."""
    before = (
        f"the first {appended} events were appended, and none after them"
        if appended
        else "nothing was appended"
    )
    return InvalidInput(
        f"{error.message}; {before}",
        where=error.where,
        hint="mend the line or leave it out, and send what was not appended once more;"
        " without --key-field lines are taken as they are",
    )


def _copy(
    log: "Log", begins: dict[TopicPartition, int], ends: dict[TopicPartition, int], into: "TopicInfo"
) -> int:
    appends = _Appends(log.producer(), into)
    count = 0
    for source, begin in begins.items():
        offset = begin
        while offset < ends[source]:
            fetched = log.admin.read(source, offset, records_max=min(READ_RECORDS_MAX, ends[source] - offset))
            if not len(fetched.records):
                break
            appends.add(fetched.records)
            count += len(fetched.records)
            offset = fetched.next_offset
    appends.close()
    return count


def _print_some(
    log: "Log",
    positions: dict[TopicPartition, int],
    left: dict[TopicPartition, int],
    source: TopicPartition,
    as_json: bool,
) -> int:
    from penstock.cli.log_records import record_line, record_row

    if not left[source]:
        return 0
    fetched = log.admin.read(source, positions[source], records_max=min(READ_RECORDS_MAX, left[source]))
    positions[source] = fetched.next_offset
    left[source] -= len(fetched.records)
    for index in range(len(fetched.records)):
        if as_json:
            print_text(msgspec.json.encode(record_row(fetched, index)).decode())
        else:
            print_text(record_line(fetched, index))
    return len(fetched.records)


def _target(log: "Log", topic: str, partitions: int | None) -> "TopicInfo":
    """A topic to append to, made where it is missing and `partitions` says of how many."""
    from penstock.log.port import TopicSpec

    if partitions is not None:
        log.admin.ensure_topics([TopicSpec(name=topic, partitions=partitions)])
    try:
        return find_topic(log.admin, topic)
    except NotFound as error:
        error.hint = "--partitions N makes it; `penstock run` makes what an app declares, as it declares it"
        raise


def _kept(info: "TopicInfo") -> str:
    spec = info.spec
    kept = []
    if spec.retention_s is not None:
        kept.append(f"{spec.retention_s:g} s")
    if spec.retention_bytes is not None:
        kept.append(f"{spec.retention_bytes} bytes a partition")
    return ", ".join(kept) or "everything"


@contextmanager
def _opened(config: ConfigOption, overrides: SetOption) -> "Iterator[Log]":
    from penstock.log.opening import open_from_settings

    with open_from_settings(settings_from(config, overrides).settings, SystemClock()) as log:
        yield log
