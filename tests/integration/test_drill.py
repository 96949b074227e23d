"""`penstock drill surge` against a server whose capacity is known and that counts what it gets."""

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from command_line import PATIENCE_S, PENSTOCK, CommandLine
from drill_server import running_backend

pytestmark = pytest.mark.alone

CAPACITY_PER_S = 500


@pytest.fixture
def backend() -> Iterator[str]:
    """Two milliseconds a request, refusing what would wait longer than 60 ms."""
    with running_backend(service_ms=1e3 / CAPACITY_PER_S, wait_ms_max=60) as port:
        yield f"http://127.0.0.1:{port}"


def surge(commands: CommandLine, url: str, *options: str, status: int = 0) -> dict[str, Any]:
    # Its verdict is tested without the machine's: other tests run beside this one.
    done = commands.run(
        *("drill", "surge", "double", "--url", url, "--connections", "200", "--json", "--allow-limited"),
        *options,
    )
    assert done.status == status, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def possible(timeline: dict[str, Any]) -> float:
    """What a server of that capacity could have answered of what was offered, second by second."""
    step_s, rates = timeline["step_s"], timeline["offered_per_s"]
    steps = round(1 / step_s)
    seconds = [step_s * sum(rates[place : place + steps]) for place in range(0, len(rates), steps)]
    return sum(min(each, CAPACITY_PER_S) for each in seconds)


def test_a_spike_over_a_known_capacity(commands: CommandLine, backend: str, tmp_path: Path) -> None:
    report = surge(
        *(commands, backend, "--capacity", str(CAPACITY_PER_S), "--base", "0.4x", "--peak", "3x"),
        *("--duration", "6", "--processes", "2", "--html", str(tmp_path / "report.html")),
        *("--class", "CRITICAL=1", "--class", "SHEDDABLE=3", "--tenant", "acme=1", "--api-key", "acme=k3y"),
        *("--require", "goodput>=0.8", "--require", "good[CRITICAL]>=0.999", "--deadline-ms", "77"),
        status=1,
    )
    # 400 + 3,000 + 400 are expected; five deviations of a Poisson count are 310.
    assert abs(report["total"]["offered"] - 3800) < 310
    # The queue is full all through the surge: what is answered then is the capacity, and a queue of 60 ms.
    assert report["goodput"] <= 1.1
    assert report["recovered"]
    assert [each["outcome"] for each in report["thresholds"]] == ["held", "not held"]
    assert {each["name"] for each in report["by_rung"]} == {"the model", "cached"}
    # What the server has seen is what the report says was sent.
    seen = httpx.get(f"{backend}/seen", trust_env=False).json()
    sent = {each["name"].lower(): each["offered"] for each in report["by_class"]}
    assert {name: seen[f"x-criticality={name}"] for name in sent} == sent
    shed = report["shed_by_reason"]
    assert {name: seen[f"refused={name}"] for name in ("queue", "deadline")} == shed
    assert seen["x-request-timeout-ms=77"] == report["total"]["offered"]
    assert seen["x-api-key=k3y"] >= report["total"]["offered"]
    # On a busy machine the server does less; what it did is in the report, whole, and nearly all good. Not in
    # it is the one request that a drill tries before the load.
    total, gave = report["total"], seen["answered"] - 1
    answered = total["good"] + total["late"]
    assert answered <= gave <= answered + total["timeout"] + total["broken"]
    assert total["good"] >= 0.8 * gave
    assert report["goodput"] == pytest.approx(total["good"] / possible(report["timeline"]), rel=0.02)
    page = (tmp_path / "report.html").read_text()
    assert "k3y" not in page + json.dumps(report)
    assert "<svg" in page


def test_refused_clients_come_back_a_bounded_number_of_times(commands: CommandLine, backend: str) -> None:
    options = ("--shape", "flash-crowd", "--base", "100", "--peak", "1500", "--duration", "4")
    report = surge(commands, backend, *options, "--retries", "2")
    seen = httpx.get(f"{backend}/seen", trust_env=False).json()
    first, second = seen["x-retry-attempt=1"], seen["x-retry-attempt=2"]
    assert first + second == report["retries"] > 100
    assert second <= first <= report["total"]["offered"] - report["retries"]
    assert "x-retry-attempt=3" not in seen
    assert report["clients_given_up"] > 0
    assert report["capacity_per_s"] is None


def test_capacity_is_measured_when_rates_are_multiples(commands: CommandLine, backend: str) -> None:
    report = surge(commands, backend, "--duration", "2", "--shape", "constant", "--peak", "0.5x")
    # On a busy machine the server does less, and never more.
    assert 0.6 * CAPACITY_PER_S < report["capacity_per_s"] < 1.15 * CAPACITY_PER_S


def test_who_is_refused_while_the_capacity_is_measured_does_not_storm_the_server(
    commands: CommandLine, backend: str
) -> None:
    """32 of the 64 in flight are refused at once, always: they come back 50 times a second each, for 4 s."""
    surge(commands, backend, "--duration", "0.1", "--shape", "constant", "--peak", "0.1x")
    seen = httpx.get(f"{backend}/seen", trust_env=False).json()
    assert 0 < seen["refused=queue"] + seen["refused=deadline"] < 64 * 50 * 4


def test_the_limit_on_requests_ends_it(commands: CommandLine, backend: str) -> None:
    """Two hundred, at 400 a second, of an hour: nobody waits for the rest of the hour."""
    report = surge(
        *(commands, backend, "--shape", "constant", "--peak", "400", "--duration", "3600"),
        *("--max-requests", "200", "--require", "good>=0.9"),
    )
    assert report["total"]["offered"] == 200
    assert report["run_s"] < 60
    assert "--max-requests" in report["notes"][0]


def test_a_server_that_hangs_cannot_hold_back_the_load(commands: CommandLine) -> None:
    """A second a request: a closed loop of 200 connections would offer what the server allows."""
    with running_backend(service_ms=1000) as port:
        report = surge(
            *(commands, f"http://127.0.0.1:{port}", "--shape", "constant", "--base", "0", "--peak", "400"),
            *("--duration", "3", "--timeout-ms", "300"),
        )
    total = report["total"]
    assert abs(total["offered"] - 1200) < 175
    assert total["good"] <= 2
    assert total["timeout"] + total["unsent"] >= total["offered"] - 10


def test_ctrl_c_ends_it_early_with_a_report(backend: str, tmp_path: Path) -> None:
    report_file = tmp_path / "report.json"
    command = [PENSTOCK, "drill", "surge", "double", "--url", backend, "--peak", "300", "--base", "100"]
    command += ["--duration", "60", "--connections", "50", "--json-file", str(report_file), "--allow-limited"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "good/s" in line:
                break
        process.send_signal(signal.SIGINT)
        process.stderr.read()
        assert process.wait(PATIENCE_S) == 0
    report = json.loads(report_file.read_text())
    assert report["run_s"] < 50
    assert report["total"]["good"] > 0
    assert "ended early" in report["notes"][0]


def test_a_server_that_dies_is_not_the_generators_fault(tmp_path: Path) -> None:
    """The port refuses: that there is no connection any more is what the server does, and a verdict stands."""
    report_file = tmp_path / "report.json"
    with running_backend(service_ms=1) as port:
        command = [PENSTOCK, "drill", "surge", "double", "--url", f"http://127.0.0.1:{port}"]
        command += ["--shape", "constant", "--peak", "300", "--duration", "5", "--connections", "300"]
        command += ["--require", "good>=0.99", "--json-file", str(report_file), "--allow-limited"]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        assert process.stderr is not None
        for line in process.stderr:
            if "good/s" in line:
                break
    with process:
        process.stderr.read()
        assert process.wait(PATIENCE_S) == 1
    total = json.loads(report_file.read_text())["total"]
    assert total["broken"] > 300
    assert total["unsent"] <= 150, "those of the moment before anybody knew"


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--url", "http://10.1.2.3:80"), "--allow-remote"),
        (("--url", "ftp://127.0.0.1"), "not the URL"),
        (("--url", "http://127.0.0.1:1"), "is it running"),
        (("--shape", "square"), "no shape"),
        (("--peak", "fast"), "no rate"),
        (("--require", "speed>=1"), "--require"),
        (("--class", "URGENT=1"), "no class"),
        (("--trace", "missing.csv"), "cannot be read"),
        (("--body", "missing.json"), "cannot be read"),
        (("--duration", "nan"), "duration"),
        (("--objective-ms", "-1"), "objective"),
        (("--connections", "0"), "connections"),
    ],
)
def test_bad_use_is_2_and_one_clear_message(
    commands: CommandLine, backend: str, options: tuple[str, ...], word: str
) -> None:
    given = options if "--url" in options else ("--url", backend, *options)
    done = commands.run("drill", "surge", "double", *given)
    assert done.status == 2
    assert word in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stdout == ""


def test_a_generator_that_was_the_limit_gives_no_verdict(commands: CommandLine) -> None:
    """Ten connections for a load that keeps hundreds of requests in flight."""
    with running_backend(service_ms=10) as port:
        done = commands.run(
            *("drill", "surge", "double", "--url", f"http://127.0.0.1:{port}", "--shape", "constant"),
            *("--peak", "1000", "--duration", "2", "--connections", "10", "--require", "good>=0.0001"),
        )
    assert done.status == 2, done.stderr
    assert "the generator was the limit" in done.stdout
    assert "verdict: not measured" in done.stdout


def test_a_trace_gives_the_load_its_form(commands: CommandLine, backend: str, tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text(
        "minute,count\n" + "".join(f"{60 * n},{count}\n" for n, count in enumerate((100, 0, 300, 0)))
    )
    report = surge(commands, backend, "--trace", str(trace), "--peak", "600", "--duration", "4")
    offered = report["timeline"]["offered_per_s"]
    step_s = report["timeline"]["step_s"]
    quarters = [step_s * sum(offered[round(n / step_s) : round((n + 1) / step_s)]) for n in range(4)]
    assert abs(quarters[0] - 200) < 75
    assert abs(quarters[2] - 600) < 125
    assert quarters[1] == quarters[3] == 0
