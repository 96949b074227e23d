"""`penstock dlq`: the events that a stream could not use, looked at, mended and sent back."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from heapq import nlargest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from penstock.cli.options import ConfigOption, JsonOption, SetOption, settings_from
from penstock.cli.output import print_json, print_table, print_text, say
from penstock.core.clock import SystemClock
from penstock.core.errors import InvalidInput

if TYPE_CHECKING:
    from penstock.streams.letter_box import LetterBox, LetterSummary, StoredLetter

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Dead letters: events that a stream could not use, and why.")

DETAIL_SHOWN_MAX = 100
Topic = Annotated[str, typer.Argument(metavar="TOPIC", help="The topic that the events came from.")]


@app.command("list")
def list_letters(
    topic: Annotated[
        str | None, typer.Argument(metavar="TOPIC", help="A topic (default: all that have any).")
    ] = None,
    recent: Annotated[int, typer.Option("-n", "--recent", min=0, help="How many of the last to list.")] = 10,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Count dead letters by reason, and list the last of a topic."""
    with _letter_box(config, overrides) as box:
        topics = box.topics() if topic is None else (topic,)
        summaries = [summary for each in topics for summary in box.summaries(each)]
        last = [] if topic is None else nlargest(recent, box.letters(topic), key=_written)[::-1]
    if as_json:
        print_json(
            {"counts": [_summary_shown(each) for each in summaries], "recent": [_shown(each) for each in last]}
        )
        return
    if not summaries:
        say("no dead letters")
        return
    print_table(
        ("topic", "reason", "letters", "replayed", "last"),
        ((each.topic, each.reason, each.letters, each.replayed, _time(each.last_ms)) for each in summaries),
    )
    if last:
        print_text("")
        print_table(
            ("letter", "written", "from", "stage", "reason", "detail", "replayed"),
            (
                (
                    each.name,
                    _time(each.letter.written_ms),
                    f"{each.letter.source}/{each.letter.offset}",
                    each.letter.stage,
                    each.letter.reason,
                    each.letter.detail[:DETAIL_SHOWN_MAX],
                    "yes" if each.replayed else "",
                )
                for each in last
            ),
        )


@app.command()
def show(
    topic: Topic,
    letter: Annotated[
        str, typer.Argument(metavar="LETTER", help="Which one: PARTITION/OFFSET, as in the list.")
    ],
    raw: Annotated[bool, typer.Option("--raw", help="Write the event's bytes alone, as they came.")] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Show one dead letter: why it is one, where it came from, and its bytes."""
    partition, offset = _place(letter)
    with _letter_box(config, overrides) as box:
        stored = box.letter(topic, partition, offset)
    if raw:
        sys.stdout.buffer.write(stored.letter.value)
        sys.stdout.flush()
        return
    if as_json:
        print_json(_shown(stored) | {"value": _value_shown(stored.letter.value)})
        return
    facts = _shown(stored)
    headers = facts.pop("headers")
    for name, fact in facts.items():
        print_text(f"{name:<12}{fact}")
    if isinstance(headers, dict):
        for name, content in headers.items():
            print_text(f"{'header':<12}{name}: {content}")
    print_text("")
    print_text(_readable(stored.letter.value))


@app.command()
def replay(  # noqa: PLR0913, PLR0917 - the options of one command
    topic: Topic,
    letters: Annotated[
        list[str] | None, typer.Argument(metavar="[LETTER]…", help="Which: PARTITION/OFFSET, as in the list.")
    ] = None,
    reason: Annotated[str | None, typer.Option(metavar="REASON", help="Those of a reason.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of the topic.")] = False,
    values: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="Append these instead: a file of one mended event a line, in their order.",
        ),
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Those too that were replayed before.")] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Append events once more to the topic that they came from, as they were or mended."""
    if sum((bool(letters), reason is not None, everything)) != 1:
        raise InvalidInput(
            "say which to replay, in one way", hint="name letters, or give --reason REASON, or --all"
        )
    places = {_place(each) for each in letters or []}
    with _letter_box(config, overrides) as box:
        if not again:
            _check_new(box, topic, places)
        wanted = _wanted(places, reason, again=again)
        skipped = 0 if again or places else sum(map(_wanted_replayed(reason), box.letters(topic)))
        if values is None:
            count = box.replay(topic, wanted)
        else:
            mended = _mended(values, sum(map(wanted, box.letters(topic))))
            count = box.replay(topic, wanted, lambda: iter(mended))
    if as_json:
        print_json({"replayed": count, "skipped": skipped})
        return
    say(f"{count} replayed" + (f"; {skipped} were before, and --again replays them too" if skipped else ""))


def _check_new(box: "LetterBox", topic: str, places: set[tuple[int, int]]) -> None:
    """Raises `InvalidInput` for a letter that was replayed, or that has nowhere to go back to."""
    for partition, offset in sorted(places):
        stored = box.letter(topic, partition, offset)
        if stored.letter.offset < 0:
            raise InvalidInput(
                f"{partition}/{offset} is no dead letter of a stream: it does not say where it came from"
            )
        if not stored.replayable:
            raise InvalidInput(
                f"{partition}/{offset} is a row that stage {stored.letter.stage} made, and was no record",
                hint="mend what raised on it, and produce the events that it came of once more",
            )
        if stored.replayed:
            raise InvalidInput(
                f"the dead letter {partition}/{offset} was replayed before", hint="--again replays it once more"
            )


@contextmanager
def _letter_box(config: Path | None, overrides: list[str] | None) -> "Iterator[LetterBox]":
    from penstock.log.opening import open_from_settings
    from penstock.streams.letter_box import LetterBox

    settings = settings_from(config, overrides).settings
    with open_from_settings(settings, SystemClock()) as log:
        yield LetterBox(log)


def _place(text: str) -> tuple[int, int]:
    partition, slash, offset = text.partition("/")
    if not slash:
        partition, offset = "0", partition
    if not (partition.isascii() and partition.isdigit() and offset.isascii() and offset.isdigit()):
        raise InvalidInput(
            f"{text!r} names no dead letter", hint="PARTITION/OFFSET, as `penstock dlq list TOPIC` has it"
        )
    return int(partition), int(offset)


def _wanted(
    places: set[tuple[int, int]], reason: str | None, *, again: bool
) -> "Callable[[StoredLetter], bool]":
    def wanted(stored: "StoredLetter") -> bool:
        # What somebody else wrote into the topic, and what a stage made, has nowhere to go back to.
        if not stored.replayable or (stored.replayed and not again):
            return False
        if places:
            return (stored.place.partition, stored.offset) in places
        return reason is None or stored.letter.reason == reason

    return wanted


def _wanted_replayed(reason: str | None) -> "Callable[[StoredLetter], bool]":
    return lambda stored: stored.replayed and (reason is None or stored.letter.reason == reason)


def _mended(path: Path, count: int) -> list[bytes]:
    """One value a line. One letter may have a file of several lines, as an editor writes JSON."""
    content = path.read_bytes()
    lines = [line for line in content.splitlines() if line.strip()]
    if count == 1 and len(lines) != 1:
        if not content.strip():
            raise InvalidInput(f"{path} is empty", where=str(path))
        return [content.strip()]
    if len(lines) != count:
        raise InvalidInput(
            f"{path} has {len(lines)} events for {count} dead letters", where=str(path), hint="write one a line"
        )
    return lines


def _written(stored: "StoredLetter") -> tuple[int, int, int]:
    return stored.letter.written_ms, stored.place.partition, stored.offset


def _time(time_ms: int) -> str:
    """In UTC; as a number where it is none that a calendar has."""
    try:
        return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, OSError, ValueError):
        return f"{time_ms} ms"


def _summary_shown(summary: "LetterSummary") -> dict[str, object]:
    return {
        "topic": summary.topic,
        "reason": summary.reason,
        "letters": summary.letters,
        "replayed": summary.replayed,
        "last_ms": summary.last_ms,
    }


def _shown(stored: "StoredLetter") -> dict[str, object]:
    """All but the event itself."""
    letter = stored.letter
    return {
        "letter": stored.name,
        "topic": letter.source.topic,
        "partition": letter.source.partition,
        "offset": letter.offset,
        "stage": letter.stage,
        "reason": letter.reason,
        "detail": letter.detail,
        "time_ms": letter.time_ms,
        "written_ms": letter.written_ms,
        "key": None if letter.key is None else letter.key.decode("utf-8", "backslashreplace"),
        "replayed": stored.replayed,
        "headers": {
            name: content.decode("utf-8", "backslashreplace") for name, content in letter.headers.items()
        },
    }


def _value_shown(value: bytes) -> dict[str, object]:
    """As text where it is one, for else JSON could not hold it; in base64 as msgspec has it otherwise."""
    try:
        return {"text": value.decode()}
    except UnicodeDecodeError:
        return {"base64": value}


def _readable(value: bytes) -> str:
    """JSON in lines, other text as it is, bytes escaped; without what a terminal would take for commands."""
    try:
        text = msgspec.json.format(value, indent=2).decode()
    except (ValueError, RecursionError):
        text = value.decode("utf-8", "backslashreplace")
    return "".join(each if each.isprintable() or each in "\n\t" else repr(each)[1:-1] for each in text)
