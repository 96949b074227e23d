"""Servers that have jobs are killed while clients submit: what was acknowledged is answered and told."""

import contextlib
import os
import random
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from command_line import CommandLine
from job_hooks import SECRET, Hooks, hooks
from moving_models import COLUMNS, push_adding
from running_server import RunningServer, running
from test_jobs import APP, ASYNC, asked, ended, job_events, options, refused, submit, taken, told
from test_registry_full_disk import fill, small_disk

__all__ = ["small_disk"]

CRASHES = int(os.environ.get("CRASHES", "3"))
"""Kills at random; `make crash-jobs CRASHES=100` for the long form."""
ADDING = """
import penstock as ps
app = ps.App("adding", objective=ps.Objective(latency_ms=60_000))
app.model("adding")
"""
SETTINGS = (
    "jobs.lease_s=1",
    f"jobs.webhook_secret={SECRET}",
    "jobs.webhook_networks_allowed=127.0.0.0/8",
    "jobs.webhook_timeout_s=1",
    "server.workers=2",
)
PATIENCE_S = 60.0


class Submitters:
    """Threads that submit jobs without a pause until told to stop, each under a key of its own until it is
    acknowledged, whatever comes between. `acknowledged` has the number that is asked about, by the job's id.
    """

    def __init__(self, port: "list[int]", hook: Hooks, threads: int = 3) -> None:
        self._port = port
        self._hook = hook
        self._over = threading.Event()
        self._until_s = float("inf")
        self.acknowledged: dict[str, int] = {}
        self._step = threads
        self._threads = [threading.Thread(target=self._work, args=(each,)) for each in range(threads)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._until_s = time.monotonic() + PATIENCE_S / 2
        self._over.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)

    def _work(self, thread: int) -> None:
        number = thread
        with httpx.Client(timeout=10, trust_env=False) as client:
            while not self._over.is_set():
                self.acknowledged[self._until_acknowledged(client, number)] = number
                number += self._step
                time.sleep(0.005)

    def _until_acknowledged(self, client: httpx.Client, number: int) -> str:
        row = [[float(number), *([0.0] * (COLUMNS - 1))]]
        body = {
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, COLUMNS], "data": row[0]}],
        }
        headers = ASYNC | {"idempotency-key": f"number {number}"}
        if number % 5 == 0:
            headers["x-webhook-url"] = self._hook.url
        while True:
            if self._over.is_set() and time.monotonic() > self._until_s:
                raise AssertionError(f"{number} was not taken on")
            try:
                url = f"http://127.0.0.1:{self._port[0]}/v2/models/adding/infer"
                response = client.post(url, json=body, headers=headers)
            except httpx.HTTPError:
                time.sleep(0.05)
                continue
            if response.status_code in (200, 202):
                name: str = response.json()["id"]
                return name
            assert response.status_code == 503, response.text
            time.sleep(0.05)


def workers(server: RunningServer) -> list[psutil.Process]:
    found = []
    for child in psutil.Process(server.process.pid).children():
        try:
            if "penstock.app.worker" in child.cmdline():
                found.append(child)
        except psutil.Error:
            continue
    return found


def kill_some(server: RunningServer, submitters: Submitters, kills: int, rng: random.Random) -> None:
    """Each once there was some progress since the one before: a busy machine starts processes slowly."""
    for _ in range(kills):
        wanted = len(submitters.acknowledged) + 15
        until_s = time.monotonic() + PATIENCE_S
        while len(submitters.acknowledged) < wanted or not workers(server):
            assert time.monotonic() < until_s, server.log
            time.sleep(0.02)
        time.sleep(rng.uniform(0.0, 0.2))
        for worker in rng.sample(workers(server), 1):
            worker.send_signal(signal.SIGKILL)


def kill_all(server: RunningServer) -> None:
    """The supervisor first, so that it starts nothing any more."""
    for process in (psutil.Process(server.process.pid), *server.children()):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def test_kills_at_random(commands: CommandLine) -> None:
    """Workers are killed, and at the end the whole server, which is started anew."""
    rng = random.Random(CRASHES)
    push_adding(commands, 1)
    with hooks() as hook, contextlib.ExitStack() as ending:
        with running(commands, ADDING, *options(*SETTINGS)) as first:
            port = [first.port]
            submitters = Submitters(port, hook)
            ending.callback(submitters.stop)
            kill_some(first, submitters, CRASHES - 1, rng)
            kill_all(first)
        with running(commands, ADDING, *options(*SETTINGS)) as second:
            port[0] = second.port
            time.sleep(1.0)
            submitters.stop()
            check(second, submitters.acknowledged, hook)


def check(server: RunningServer, acknowledged: dict[str, int], hook: Hooks) -> None:
    assert len(acknowledged) > 10 * CRASHES
    assert len(set(acknowledged.values())) == len(acknowledged), "a key stood for two jobs"
    with server.client() as client:
        for name, number in acknowledged.items():
            job = ended(client, name)
            assert job["status"] == "done", job
            result = client.get(f"/v2/jobs/{name}/result").json()
            assert result["outputs"][0]["data"] == [100.0 + number]
            if number % 5 == 0:
                told(client, name, "delivered")
    wanted = {name for name, number in acknowledged.items() if number % 5 == 0}
    assert set(hook.ids()) == wanted
    until_s = time.monotonic() + PATIENCE_S
    while True:
        home = server.folder / ".penstock"
        events = {(each["job"], each["sequence"]): each["event"] for each in job_events(home, "adding")}
        if len(events) >= 2 * len(acknowledged) or time.monotonic() > until_s:
            break
        time.sleep(0.2)
    assert Counter(events.values()) == {"accepted": len(acknowledged), "done": len(acknowledged)}
    assert {name for name, _ in events} == set(acknowledged)


def test_they_outlive_the_server_and_a_model_may_be_gone(commands: CommandLine) -> None:
    one = options("jobs.running_max=1", "jobs.attempts_max=2", "jobs.retry_first_s=0.1", "jobs.lease_s=1")
    with running(commands, APP, *one) as first, first.client() as client:
        sleepy = taken(client, "sleepy", 20)
        while client.get(f"/v2/jobs/{sleepy}").json()["status"] == "queued":
            time.sleep(0.01)
        kept, gone = taken(client, "double", 4), taken(client, "breaks", 1)
        kill_all(first)
    (commands.folder / "enough").touch()
    without = APP.replace('"breaks"', '"mends"')
    with running(commands, without, *one) as second, second.client() as client:
        assert ended(client, sleepy)["status"] == "done"
        assert ended(client, kept)["status"] == "done"
        assert client.get(f"/v2/jobs/{kept}/result").json()["outputs"][0]["data"] == [8.0]
        job = ended(client, gone)
        assert (job["status"], job["attempts"]) == ("failed", 2)
        assert "no model 'breaks' is served here" in job["error"]
        refused(client.get(f"/v2/jobs/{gone}/result"), 404, "breaks")


def test_a_server_that_ends_gives_back_what_it_has(commands: CommandLine) -> None:
    with running(commands, APP, "--set", "server.drain_s=2") as first, first.client() as client:
        sleepy = taken(client, "sleepy", 30)
        while client.get(f"/v2/jobs/{sleepy}").json()["status"] == "queued":
            time.sleep(0.01)
        client.close()
        assert first.end() == 0
    (commands.folder / "enough").touch()
    with running(commands, APP) as second, second.client() as client:
        job = ended(client, sleepy)
        # Given back, not lost: it was no attempt, and nobody waited for a lease of ten seconds.
        assert (job["status"], job["attempts"]) == ("done", 1)


def test_a_full_disk_takes_nothing_on(small_disk: Path, commands: CommandLine) -> None:
    ballast = small_disk / "ballast"
    home = f"home={small_disk}"
    with running(commands, APP, "--set", home) as server, server.client() as client:
        kept = [taken(client, "double", number) for number in range(3)]
        for name in kept:
            ended(client, name)
        fill(ballast)
        names = []
        until_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < until_s:
            response = submit(client, "double", *np.arange(500.0))
            if response.status_code != 202:
                break
            names.append(response.json()["id"])
        refused(response, 503, "the job was not taken on", "disk is full")
        assert response.headers["x-shed-reason"] == "jobs_storage"
        assert client.post("/v2/models/double/infer", json=asked(1)).status_code == 200
        ballast.unlink()
        names.append(taken(client, "double", 7))
        for name in (*kept, *names):
            assert ended(client, name)["status"] == "done"


@pytest.mark.parametrize("bodies", [b"", b"{", b'{"inputs": 1}', b"\xff" * 100, b"[" * 10_000])
def test_bodies_that_are_none(commands: CommandLine, bodies: bytes, linear_jobs: RunningServer) -> None:
    with linear_jobs.client() as client:
        for path in ("/v2/models/adding/infer", "/models/adding/invocations"):
            at_once = client.post(path, content=bodies)
            later = client.post(path, content=bodies, headers=ASYNC)
            assert (later.status_code, later.content) == (at_once.status_code, at_once.content)
            assert later.status_code == 400
        assert not list((linear_jobs.folder / ".penstock").glob("jobs*"))


@pytest.fixture(scope="module")
def linear_jobs(tmp_path_factory: pytest.TempPathFactory):
    commands = CommandLine(tmp_path_factory.mktemp("adding"))
    push_adding(commands, 1)
    with running(commands, ADDING) as server:
        yield server
