"""`penstock log`, as a user has it."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from command_line import PENSTOCK

EVENTS = [{"flight": f"UA{number % 3}", "delay": number} for number in range(9)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def run(folder: Path, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PENSTOCK, "log", *arguments],
        cwd=folder,
        input=given,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def lines(*events: object) -> str:
    return "".join(json.dumps(event) + "\n" for event in events)


def tail(folder: Path, *arguments: str) -> list[dict[str, object]]:
    done = run(folder, "tail", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_from_lines_to_records_and_back(folder: Path) -> None:
    missing = run(folder, "produce", "events", given=lines(*EVENTS))
    assert missing.returncode == 1
    assert "no topic 'events'" in missing.stderr
    assert "--partitions" in missing.stderr
    done = run(folder, "produce", "events", "--partitions", "2", "--key-field", "flight", given=lines(*EVENTS))
    assert (done.returncode, done.stderr) == (0, "9 records appended to events\n")
    rows = tail(folder, "events", "--from", "begin")
    assert len(rows) == 9
    for key in ("UA0", "UA1", "UA2"):
        mine = [row for row in rows if row["key"] == key]
        assert [json.loads(str(row["value"])) for row in mine] == [
            each for each in EVENTS if each["flight"] == key
        ]
        assert len({row["partition"] for row in mine}) == 1
    (topic,) = json.loads(run(folder, "topics", "--json").stdout)
    assert topic["spec"]["partitions"] == 2
    assert sum(topic["ends"]) == 9
    assert "everything" in run(folder, "topics").stdout


def test_tail_from_somewhere(folder: Path) -> None:
    run(folder, "produce", "events", "--partitions", "1", given="a\n\nb\r\nc\x1b[31m\n")
    assert [row["value"] for row in tail(folder, "events", "-n", "2")] == ["b", "c\x1b[31m"]
    assert [row["value"] for row in tail(folder, "events", "--from", "1", "-n", "1")] == ["b"]
    assert [row["value"] for row in tail(folder, "events", "--from", "2013-01-01")] == ["a", "b", "c\x1b[31m"]
    assert tail(folder, "events", "--from", "2999-01-01T00:00Z") == []
    assert tail(folder, "events", "--from", "end") == []
    shown = run(folder, "tail", "events").stdout
    assert "\x1b" not in shown
    assert "\\x1b" in shown
    bad = run(folder, "tail", "events", "--from", "yesterday")
    assert (bad.returncode, bad.stdout) == (1, "")
    assert "no place in a topic" in bad.stderr


def test_a_line_without_its_key_is_named(folder: Path) -> None:
    given = '{"a": 1}\n{"b": 1}\n'
    done = run(folder, "produce", "events", "--partitions", "1", "--key-field", "a", given=given)
    assert done.returncode == 1
    assert "line 2 has no field 'a' to take the key from; nothing was appended\n" in done.stderr
    assert "hint: mend the line" in done.stderr
    assert tail(folder, "events") == []


def test_what_was_appended_before_a_bad_line_is_said(folder: Path) -> None:
    run(folder, "produce", "events", "--partitions", "1")
    given = '{"a": 1}\n' * 200_000 + "no json\n"
    done = run(folder, "produce", "events", "--key-field", "a", given=given)
    said = re.search(
        r"line 200001 is no JSON: .*; the first (\d+) events were appended, and none after", done.stderr
    )
    assert said is not None, done.stderr
    (info,) = json.loads(run(folder, "topics", "--json").stdout)
    assert info["ends"] == [int(said[1])]


def test_groups_read_again(folder: Path) -> None:
    run(folder, "produce", "events", "--partitions", "1", given="a\nb\nc\n")
    assert run(folder, "lag", "group").returncode == 1
    done = run(folder, "replay", "events", "--group", "group", "--from", "1")
    assert (done.returncode, done.stderr) == (0, "group goes on at offset 1 of events/0\n")
    (lag,) = json.loads(run(folder, "lag", "group", "--json").stdout)
    assert (lag["committed"], lag["end"], lag["lag"]) == (1, 3, 2)
    assert "events/0" in run(folder, "lag").stdout
    both = run(folder, "replay", "events", "--group", "group", "--into", "events", "--from", "1")
    assert both.returncode == 1


def test_a_range_is_copied_with_keys_and_times(folder: Path) -> None:
    run(
        folder,
        "produce",
        "events",
        "--partitions",
        "1",
        "--key-field",
        "k",
        given=lines({"k": "x"}, {"k": "y"}),
    )
    assert run(folder, "replay", "events", "--into", "copy", "--from", "begin").returncode == 1
    run(folder, "produce", "copy", "--partitions", "3")
    done = run(folder, "replay", "events", "--into", "copy", "--from", "0", "--until", "1")
    assert done.stderr == "1 records copied into copy\n"
    other = run(folder, "replay", "events", "--into", "other", "--from", "begin", "--partitions", "2")
    assert other.stderr == "2 records copied into other\n"
    assert {row["key"] for row in tail(folder, "other")} == {"x", "y"}
    fewer = run(folder, "replay", "events", "--into", "other", "--from", "begin", "--partitions", "1")
    assert (fewer.returncode, "other has 2 partitions, not 1" in fewer.stderr) == (1, True)
    grouped = run(folder, "replay", "events", "--group", "group", "--from", "begin", "--partitions", "2")
    assert (grouped.returncode, "makes no topic" in grouped.stderr) == (1, True)
    (copied,) = tail(folder, "copy")
    first = tail(folder, "events")[0]
    assert {name: copied[name] for name in ("key", "value", "time")} == {
        name: first[name] for name in ("key", "value", "time")
    }


def test_following(folder: Path) -> None:
    run(folder, "produce", "events", "--partitions", "1", given="a\n")
    process = subprocess.Popen(
        [PENSTOCK, "log", "tail", "events", "--follow"], cwd=folder, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().endswith("  a\n")
        run(folder, "produce", "events", given="b\n")
        assert process.stdout.readline().endswith("  b\n")
    finally:
        process.kill()
        process.communicate()


def test_a_password_in_the_url_is_refused_and_not_repeated(folder: Path) -> None:
    done = run(folder, "topics", "--set", "log.url=kafka://user:secret@host")
    assert done.returncode == 1
    assert "kafka.password" in done.stderr
    assert "secret" not in done.stderr


def test_the_same_commands_on_kafka(folder: Path, kafka: str) -> None:
    on_kafka = ("--set", f"log.url=kafka://{kafka}")
    assert (
        run(folder, "produce", "test-log-cli", "--partitions", "1", *on_kafka, given="a\nb\n").returncode == 0
    )
    found = run(folder, "tail", "test-log-cli", *on_kafka)
    assert [line.split()[-1] for line in found.stdout.splitlines()] == ["a", "b"]
    listed = run(folder, "topics", *on_kafka).stdout
    (line,) = (line for line in listed.splitlines() if line.startswith("test-log-cli"))
    assert line.split()[:3] == ["test-log-cli", "1", "2"]
