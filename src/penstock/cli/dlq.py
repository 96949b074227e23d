"""`penstock dlq`: the events that a stream could not use, looked at, mended and sent back."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from heapq import nlargest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from penstock.cli.options import ConfigOption, JsonOption, SetOption, settings_from
from penstock.cli.output import print_json, print_table, print_text, say
from penstock.cli.times import time_text
from penstock.core.clock import SystemClock
from penstock.core.errors import InvalidInput, NotFound, shown

if TYPE_CHECKING:
    from penstock.streams.letter_box import LetterBox, LetterSummary, StoredLetter

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Dead letters: events that a stream could not use, and why.")

DETAIL_SHOWN_MAX = 100
LATE = "late"
"""As `Reason.LATE` is written."""
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
        say("no dead letters" + ("" if topic is None else f" of topic {topic}"))
        return
    print_table(
        ("topic", "reason", "letters", "replayed", "last"),
        ((each.topic, each.reason, each.letters, each.replayed, time_text(each.last_ms)) for each in summaries),
    )
    if last:
        print_text("")
        _print_letters(last)


def _print_letters(letters: "Sequence[StoredLetter]") -> None:
    """Columns in which all rows would be alike are left out."""
    columns: dict[str, list[str]] = {
        "letter": [each.name for each in letters],
        "written": [time_text(each.letter.written_ms) for each in letters],
        "from": [_origin(each) for each in letters],
        "stage": [each.letter.stage for each in letters],
        "reason": [each.letter.reason for each in letters],
        "detail": [_short(each.letter.detail) for each in letters],
        "replayed": ["yes" if each.replayed else "" for each in letters],
    }
    if all(each.letter.stage == each.letter.source.topic for each in letters):
        del columns["stage"]
    if not any(columns["replayed"]):
        del columns["replayed"]
    print_table(tuple(columns), zip(*columns.values(), strict=True))


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
    found = stored.letter
    facts = {
        "letter": stored.name,
        "from": _origin(stored),
        "stage": found.stage,
        "reason": found.reason,
        "detail": found.detail,
        "time": time_text(found.time_ms),
        "written": time_text(found.written_ms),
        "key": "" if found.key is None else found.key.decode("utf-8", "backslashreplace"),
        "replayed": "yes" if stored.replayed else "no",
    }
    for name, fact in facts.items():
        print_text(f"{name:<12}{_printable(fact)}".rstrip())
    for name, content in found.headers.items():
        print_text(
            f"{'header':<12}{_printable(name)}: {_printable(content.decode('utf-8', 'backslashreplace'))}"
        )
    if found.row is not None:
        print_text(f"\nas stage {found.stage} had it:\n{_readable(found.row)}\n\nas it came:")
    print_text(("" if found.row is not None else "\n") + _readable(found.value))


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
    """Append events once more to the topic that they came from, as they were or mended.

    There they are new events: all that is made of the topic is made of them, too. One that is older by now than
    the stream's lateness allows is late, as any other: it goes to `stream.late`, or where that goes nowhere
    becomes a dead letter again, of the reason "late".
    """
    if sum((bool(letters), reason is not None, everything)) != 1:
        raise InvalidInput(
            "say which to replay, in one way", hint="name letters, or give --reason REASON, or --all"
        )
    places = {_place(each) for each in letters or []}
    with _letter_box(config, overrides) as box:
        if not again:
            _check_new(box, topic, places)
        _check_reason(box, topic, reason)
        wanted = _wanted(places, reason, again=again)
        skipped = 0 if again or places else sum(map(_wanted_replayed(reason), box.letters(topic)))
        made = 0 if places else sum(map(_unreplayable(reason), box.letters(topic)))
        late = sum(map(_late(wanted), box.letters(topic))) if values is None else 0
        if values is None:
            count = box.replay(topic, wanted)
        else:
            mended = _mended(values, sum(map(wanted, box.letters(topic))))
            count = box.replay(topic, wanted, lambda: iter(mended))
    if as_json:
        print_json({"replayed": count, "skipped": skipped, "late": late})
        return
    _say_replayed(count, skipped, made, late)


def _say_replayed(count: int, skipped: int, made: int, late: int) -> None:
    say(f"{count} replayed" + (f"; {skipped} were before, and --again replays them too" if skipped else ""))
    if made:
        say(f"{made} cannot be: windows that closed, or what nobody knows where it came from")
    if count:
        say(
            "they are new events of the stream; those that are too late by now go to stream.late, or where that"
            " goes nowhere are listed here again, as late"
        )
    if late:
        say(
            f"{late} of them were late before, and are late again unless lateness= is longer by now:"
            " mend their times, or send stream.late somewhere"
        )


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
                f"{partition}/{offset} is no event: it is a window that closed, or was made of one",
                hint="mend what raised on it, and let the group read the window's events again",
            )
        if stored.replayed:
            raise InvalidInput(
                f"the dead letter {partition}/{offset} was replayed before", hint="--again replays it once more"
            )


def _check_reason(box: "LetterBox", topic: str, reason: str | None) -> None:
    """Raises `NotFound` for one that no letter has."""
    if reason is None:
        return
    known = [summary.reason for summary in box.summaries(topic)]
    if reason not in known:
        raise NotFound(
            f"no dead letter of topic {shown(topic)} has the reason {shown(reason)}",
            hint=f"there are {', '.join(known)}" if known else "it has no dead letters",
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


def _late(wanted: "Callable[[StoredLetter], bool]") -> "Callable[[StoredLetter], bool]":
    """Those that are behind the watermark, which never goes back, for all that is known here."""
    return lambda stored: wanted(stored) and stored.letter.reason == LATE


def _wanted_replayed(reason: str | None) -> "Callable[[StoredLetter], bool]":
    return lambda stored: stored.replayed and (reason is None or stored.letter.reason == reason)


def _unreplayable(reason: str | None) -> "Callable[[StoredLetter], bool]":
    return lambda stored: not stored.replayable and (reason is None or stored.letter.reason == reason)


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


def _origin(stored: "StoredLetter") -> str:
    letter = stored.letter
    return f"{letter.source}/{letter.offset}" if stored.replayable else str(letter.source)


def _short(detail: str) -> str:
    return detail if len(detail) <= DETAIL_SHOWN_MAX else f"{detail[: DETAIL_SHOWN_MAX - 1]}…"


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
        **({} if letter.row is None else {"row": letter.row.decode("utf-8", "backslashreplace")}),
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
    return _printable(text)


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() or each in "\n\t" else repr(each)[1:-1] for each in text)
