"""`penstock dlq` over the embedded log, as a user's shell runs it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import CommandLine

from penstock.core.clock import SystemClock
from penstock.log.opening import open_log
from penstock.log.port import Log, TopicSpec
from penstock.log.records import Records, TopicPartition
from penstock.streams.dead_letters import letters_of, letters_of_bad, records_of
from penstock.streams.decoding import decoder_of
from penstock.streams.reasons import Reason
from penstock.streams.schema import StreamSchema

GOOD, WRONG, BROKEN = b'{"id":1}', b'{"id":"two"}', b"\xff{\x1b[31m"
NOW_MS = 1_700_000_000_000


def open_in(folder: Path) -> Log:
    return open_log("", folder / ".penstock", SystemClock())


@pytest.fixture
def dead(commands: CommandLine) -> CommandLine:
    """A folder whose log has three dead letters in two partitions."""
    with open_in(commands.folder) as log:
        specs = [TopicSpec(name=name, partitions=2) for name in ("departures", "departures.dead")]
        log.admin.ensure_topics([*specs, TopicSpec(name="quiet")])
        producer = log.producer()
        decoder = decoder_of("json", StreamSchema.of({"id": int}))
        for partition, values in enumerate([[GOOD, WRONG], [BROKEN, GOOD, WRONG]]):
            source = TopicPartition("departures", partition)
            records = Records(values=values, times_ms=np.full(len(values), NOW_MS))
            producer.append(source, records).result(10)
            got = decoder.decode(records, np.arange(len(values)), NOW_MS)
            letters = letters_of_bad(got, source, "late", NOW_MS + partition)
            producer.append(TopicPartition("departures.dead", partition), records_of(letters)).result(10)
        producer.close()
    return commands


def departures(commands: CommandLine, partition: int) -> list[tuple[bytes, bytes | None]]:
    """Values with where they were replayed from."""
    with open_in(commands.folder) as log:
        found = log.admin.read(TopicPartition("departures", partition), 0, records_max=100).records
    headers = found.headers or [None] * len(found)
    return [
        (bytes(value), (each or {}).get("penstock-replayed-from"))
        for value, each in zip(found.values, headers, strict=True)
    ]


def test_list(dead: CommandLine) -> None:
    listed = json.loads(dead.succeeds("dlq", "list", "departures", "--json"))
    assert [(each["reason"], each["letters"], each["replayed"]) for each in listed["counts"]] == [
        ("schema", 2, 0),
        ("undecodable", 1, 0),
    ]
    assert [each["letter"] for each in listed["recent"]] == ["0/0", "1/0", "1/1"]
    table = dead.succeeds("dlq", "list", "departures", "-n", "1")
    assert "Expected `int`, got `str` - at `$.id`" in table
    assert "departures/1/2" in table
    assert "departures/0/1" not in table
    assert "undecodable" in dead.succeeds("dlq", "list")


def test_show(dead: CommandLine) -> None:
    shown = dead.succeeds("dlq", "show", "departures", "1/0")
    assert "undecodable" in shown
    assert "\\xff{" in shown
    assert "\x1b" not in shown
    assert '"id": "two"' in dead.succeeds("dlq", "show", "departures", "0")
    assert dead.succeeds("dlq", "show", "departures", "0", "--raw") == WRONG.decode()
    as_json = json.loads(dead.succeeds("dlq", "show", "departures", "1/1", "--json"))
    assert as_json["value"] == {"text": WRONG.decode()}
    assert json.loads(dead.succeeds("dlq", "show", "departures", "1/0", "--json"))["value"] == {
        "base64": "/3sbWzMxbQ=="
    }


def test_replay_one_mended_then_the_rest(dead: CommandLine) -> None:
    mended = dead.folder / "mended.json"
    mended.write_text('{\n  "id": 2\n}\n')
    dead.succeeds("dlq", "replay", "departures", "1/1", "--values", mended)
    assert departures(dead, 1)[3:] == [(b'{\n  "id": 2\n}', b"departures.dead/1/1")]
    assert "was replayed before" in dead.run("dlq", "replay", "departures", "1/1").error
    done = json.loads(dead.succeeds("dlq", "replay", "departures", "--all", "--json"))
    assert done == {"replayed": 2, "skipped": 1, "late": 0}
    assert departures(dead, 0)[2:] == [(WRONG, b"departures.dead/0/0")]
    assert departures(dead, 1)[4:] == [(BROKEN, b"departures.dead/1/0")]
    listed = json.loads(dead.succeeds("dlq", "list", "departures", "--json"))
    assert [(each["letters"], each["replayed"]) for each in listed["counts"]] == [(2, 2), (1, 1)]
    assert json.loads(
        dead.succeeds("dlq", "replay", "departures", "--reason", "schema", "--again", "--json")
    ) == {
        "replayed": 2,
        "skipped": 0,
        "late": 0,
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["list", "nowhere"], "has no dead letters"),
        (["show", "departures", "0/99"], "no dead letter at 0/99"),
        (["show", "departures", "x"], "names no dead letter"),
        (["replay", "departures"], "say which to replay"),
        (["replay", "departures", "0/0", "--all"], "say which to replay"),
        (["replay", "departures", "--all", "--values", "two.jsonl"], "has 2 events for 3 dead letters"),
        (
            ["replay", "departures", "--reason", "shema"],
            "has the reason 'shema'\nhint: there are schema, undecodable",
        ),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, list) else "",
)
def test_mistakes(dead: CommandLine, arguments: list[str], message: str) -> None:
    (dead.folder / "two.jsonl").write_bytes(b"1\n2\n")
    assert message in dead.inside("dlq", *arguments).error
    assert len(departures(dead, 1)) == 3


def test_what_becomes_of_replayed_events_is_said(dead: CommandLine) -> None:
    said = dead.run("dlq", "replay", "departures", "0/0").stderr
    assert said.startswith("1 replayed\n")
    assert "too late by now go to stream.late" in said


def test_those_that_will_be_late_again_are_counted(dead: CommandLine) -> None:
    assert "of them were late" not in dead.run("dlq", "replay", "departures", "1/0").stderr
    with open_in(dead.folder) as log:
        place = TopicPartition("departures.dead", 0)
        (first,) = letters_of(log.admin.read(place, 0, records_max=1))
        producer = log.producer()
        late = [replace(first, reason=Reason.LATE, offset=offset) for offset in (0, 1)]
        producer.append(place, records_of(late)).result(10)
        producer.close()
    assert "\n2 of them were late before" in dead.run("dlq", "replay", "departures", "--all").stderr
    again = dead.succeeds("dlq", "replay", "departures", "--reason", "late", "--again", "--json")
    assert json.loads(again) == {"replayed": 2, "skipped": 0, "late": 2}
    mended = dead.folder / "mended.json"
    mended.write_bytes(GOOD)
    done = dead.run("dlq", "replay", "departures", "0/1", "--again", "--values", mended).stderr
    assert done.startswith("1 replayed\n")
    assert "of them were late" not in done, "nobody knows what their times are now"


def test_topics_whose_letters_are_none_are_not_named(dead: CommandLine) -> None:
    with open_in(dead.folder) as log:
        log.admin.ensure_topics([TopicSpec(name="quiet.dead")])
    assert "hint: these have: departures\n" in dead.run("dlq", "list", "nowhere").error
    assert dead.run("dlq", "list", "quiet").stderr == "no dead letters of topic quiet\n"


def test_names_are_whole_on_a_narrow_terminal(dead: CommandLine) -> None:
    narrow = {"COLUMNS": "60"}
    listed = dead.run("dlq", "list", "departures", environment=narrow).stdout
    assert "departures/1/2" in listed
    assert "Expected `int`, got `str` - at `$.id`" in listed


def test_a_log_without_any(commands: CommandLine) -> None:
    assert commands.run("dlq", "list").stderr == "no dead letters\n"
