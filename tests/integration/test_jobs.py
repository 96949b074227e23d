"""Jobs over HTTP: the real server, its log, and a server that takes webhooks."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from command_line import CommandLine
from job_hooks import SECRET, Hooks, hooks
from running_server import RunningServer, running, v2_binary, v2_json

import penstock
from penstock.client import BadAnswer, CallRejected, CallTimedOut
from penstock.core.clock import SystemClock
from penstock.core.errors import InvalidInput
from penstock.log.opening import open_log
from penstock.log.records import TopicPartition

APP = """
import os
import time
import penstock as ps
from penstock import Signature

app = ps.App("jobbing", objective=ps.Objective(latency_ms=60_000))
app.tenant("acme", keys=["acme-acme-acme-acme"])
app.tenant("zeta", keys=["zeta-zeta-zeta-zeta"])
NUMBER = Signature.of(inputs={"x": "FP32[-1]"}, outputs={"y": "FP32[-1]"})

@app.callable("double", signature=NUMBER)
def double(inputs):
    return {"y": 2 * inputs["x"]}

@app.callable("breaks", signature=NUMBER)
def breaks(inputs):
    with open("attempts", "a") as file:
        file.write("x")
    if os.path.getsize("attempts") < float(inputs["x"][0]):
        raise ValueError("not yet")
    return {"y": inputs["x"]}

@app.callable("steady", signature=NUMBER)
def steady(inputs):
    time.sleep(float(inputs["x"].max()))
    return {"y": inputs["x"]}

@app.callable("sleepy", signature=NUMBER)
def sleepy(inputs):
    until = time.monotonic() + float(inputs["x"].max())
    while time.monotonic() < until and not os.path.exists("enough"):
        time.sleep(0.01)
    return {"y": inputs["x"]}
"""
ASYNC = {"prefer": "respond-async"}
PATIENCE_S = 30.0
SETTINGS = (
    "jobs.retry_first_s=0.1",
    "jobs.attempts_max=3",
    f"jobs.webhook_secret={SECRET}",
    "jobs.webhook_networks_allowed=127.0.0.0/8",
    "jobs.webhook_attempts=2",
    "jobs.webhook_timeout_s=1",
)


def options(*settings: str) -> list[str]:
    return [each for setting in settings for each in ("--set", setting)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    commands = CommandLine(tmp_path_factory.mktemp("jobs"))
    with running(commands, APP, *options(*SETTINGS)) as found:
        yield found
        assert found.process.poll() is None, found.log


@pytest.fixture
def client(server: RunningServer) -> Iterator[httpx.Client]:
    with server.client() as opened:
        yield opened


@pytest.fixture
def hook() -> Iterator[Hooks]:
    with hooks() as found:
        yield found


def asked(*numbers: float) -> dict[str, Any]:
    return v2_json({"x": np.array(numbers, np.float32)})


def submit(client: httpx.Client, model: str, *numbers: float, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post(f"/v2/models/{model}/infer", json=asked(*numbers), headers=ASYNC | named)


def taken(client: httpx.Client, model: str, *numbers: float, **headers: str) -> str:
    """The id of a job that was taken on."""
    response = submit(client, model, *numbers, **headers)
    assert response.status_code == 202, response.text
    name: str = response.json()["id"]
    assert response.headers["location"] == f"/v2/jobs/{name}"
    return name


def ended(client: httpx.Client, name: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
    """The job, once it is finished."""
    until_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < until_s:
        response = client.get(f"/v2/jobs/{name}", headers=headers)
        assert response.status_code == 200, response.text
        job: dict[str, Any] = response.json()
        if job["status"] not in ("queued", "running"):
            assert "retry-after" not in response.headers
            return job
        assert response.headers["retry-after"] == "1"
        time.sleep(0.02)
    raise AssertionError(f"{job} did not end")


def told(client: httpx.Client, name: str, status: str) -> dict[str, Any]:
    """The webhook of a job, once that is so."""
    until_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < until_s:
        webhook: dict[str, Any] = client.get(f"/v2/jobs/{name}").json()["webhook"]
        if webhook["status"] == status:
            return webhook
        time.sleep(0.02)
    raise AssertionError(webhook)


def refused(response: httpx.Response, status: int, *said: str) -> None:
    assert response.status_code == status, response.text
    assert next(iter(response.json())) == "error"
    for each in said:
        assert each in response.json()["error"]


@pytest.mark.parametrize("path", ["/v2/models/double/infer", "/models/double/invocations"])
def test_the_result_is_the_answer_that_there_would_have_been(client: httpx.Client, path: str) -> None:
    body = asked(1, 2.5) if path.startswith("/v2") else {"instances": [{"x": 1}, {"x": 2.5}]}
    at_once = client.post(path, json=body)
    response = client.post(path, json=body, headers=ASYNC)
    assert response.status_code == 202
    assert response.headers["preference-applied"] == "respond-async"
    assert response.json()["status"] == "queued"
    job = ended(client, response.json()["id"])
    assert (job["status"], job["model"], job["attempts"]) == ("done", "double", 1)
    assert job["created_at"] <= job["started_at"] <= job["finished_at"]
    result = client.get(f"/v2/jobs/{job['id']}/result")
    assert (result.status_code, result.content) == (200, at_once.content)
    ignored = {"date"}
    assert {k: v for k, v in result.headers.items() if k not in ignored} == {
        k: v for k, v in at_once.headers.items() if k not in ignored
    }


def test_binary_and_compressed(client: httpx.Client) -> None:
    body, headers = v2_binary({"x": np.array([1, 2], np.float32)})
    at_once = client.post("/v2/models/double/infer", content=body, headers=headers)
    response = client.post("/v2/models/double/infer", content=body, headers=headers | ASYNC)
    job = ended(client, response.json()["id"])
    result = client.get(f"/v2/jobs/{job['id']}/result")
    assert result.content == at_once.content
    assert (
        result.headers["inference-header-content-length"] == at_once.headers["inference-header-content-length"]
    )
    import gzip

    packed = gzip.compress(json.dumps(asked(3)).encode())
    response = client.post(
        "/v2/models/double/infer", content=packed, headers=ASYNC | {"content-encoding": "gzip"}
    )
    job = ended(client, response.json()["id"])
    assert client.get(f"/v2/jobs/{job['id']}/result").json()["outputs"][0]["data"] == [6.0]


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/v2/models/double/infer", {"inputs": []}, 400, "missing"),
        (
            "/v2/models/double/infer",
            {"inputs": [{"name": "x", "datatype": "FP32", "shape": [0], "data": []}]},
            400,
            "",
        ),
        ("/v2/models/nothing/infer", asked(1), 404, "nothing"),
        ("/v2/models/double/versions/7/infer", asked(1), 404, "7"),
        ("/models/double/invocations", {"instances": [{"x": "a"}]}, 400, "x"),
        ("/models/nothing/invocations", {"instances": [{"x": 1}]}, 404, "nothing"),
    ],
)
def test_what_is_wrong_is_said_at_once(
    client: httpx.Client, path: str, body: dict[str, Any], status: int, said: str
) -> None:
    at_once = client.post(path, json=body)
    response = client.post(path, json=body, headers=ASYNC)
    refused(response, status, said)
    assert response.content == at_once.content


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({"x-job-expires-s": "soon"}, "x-job-expires-s"),
        ({"idempotency-key": ""}, "idempotency-key"),
        ({"x-webhook-url": "example.com"}, "x-webhook-url"),
        ({"x-webhook-url": "http://10.0.0.1/"}, "jobs.webhook_networks_allowed"),
        ({"x-webhook-url": "http://[::ffff:169.254.169.254]/"}, "not on the public internet"),
    ],
)
def test_terms_that_cannot_be_met(client: httpx.Client, headers: dict[str, str], said: str) -> None:
    refused(client.post("/v2/models/double/infer", json=asked(1), headers=ASYNC | headers), 400, said)


def test_a_batch_is_no_job(client: httpx.Client) -> None:
    headers = ASYNC | {"content-type": "application/x-ndjson"}
    response = client.post("/models/double/invocations", content=b'{"x": 1}\n', headers=headers)
    refused(response, 415, "a batch", "respond-async")


def test_what_is_no_inference_has_no_use_for_the_preference(client: httpx.Client) -> None:
    assert client.get("/v2", headers=ASYNC).status_code == 200
    refused(client.post("/v2/jobs/x", headers=ASYNC), 405, "DELETE")
    refused(client.get("/v2/jobs"), 404)


def test_a_key_stands_for_one_request(client: httpx.Client) -> None:
    first = taken(client, "double", 1, idempotency_key="k")
    assert ended(client, first)["status"] == "done"
    again = submit(client, "double", 1, idempotency_key="k")
    assert (again.status_code, again.json()["id"]) == (200, first)
    refused(submit(client, "double", 2, idempotency_key="k"), 422, first, "another key")
    acme = {"x_api_key": "acme-acme-acme-acme"}
    other = submit(client, "double", 2, idempotency_key="k", **acme)
    assert other.status_code == 202


def test_the_time_that_a_request_gives_is_for_being_taken_on(client: httpx.Client) -> None:
    """Not for its answer: a model that takes longer is what jobs are for."""
    for _ in range(3):
        ended(client, taken(client, "steady", 0.2))
    name = taken(client, "steady", 0.2, x_request_timeout_ms="150")
    assert ended(client, name)["status"] == "done"
    refused(submit(client, "steady", 0.2, x_request_timeout_ms="0.000001"), 504, "idempotency-key")


def test_a_key_stands_for_its_job_though_its_model_is_gone(commands: CommandLine) -> None:
    with running(commands, APP, *options(*SETTINGS)) as found, found.client() as client:
        name = taken(client, "double", 1, idempotency_key="k")
        assert ended(client, name)["status"] == "done"
    with (
        running(commands, APP.replace("def double", "def twice").replace('"double"', '"twice"')) as found,
        found.client() as client,
    ):
        again = submit(client, "double", 1, idempotency_key="k")
        assert (again.status_code, again.json()["id"]) == (200, name)
        refused(submit(client, "double", 2, idempotency_key="k"), 422, name)
        refused(submit(client, "double", 1, idempotency_key="another"), 404, "double")


def test_without_tenants_a_job_is_everybodys_who_knows_it(commands: CommandLine) -> None:
    app = "\n".join(line for line in APP.splitlines() if "app.tenant" not in line)
    with running(commands, app) as found, found.client() as client:
        name = taken(client, "double", 1, idempotency_key="k")
        ended(client, name)
        elsewhere = httpx.HTTPTransport(local_address="127.0.0.2")
        with httpx.Client(base_url=found.url, transport=elsewhere, timeout=PATIENCE_S) as other:
            assert other.get(f"/v2/jobs/{name}/result").status_code == 200
            assert submit(other, "double", 1, idempotency_key="k").json()["id"] == name


def test_a_key_used_by_many_at_once(server: RunningServer) -> None:
    def one(number: int) -> tuple[int, str]:
        with server.client() as client:
            response = submit(client, "double", number % 2, idempotency_key="many")
            return response.status_code, response.json().get("id", "")

    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(one, range(64)))
    assert {status for status, _ in found} <= {200, 202, 422}
    assert len({name for status, name in found if status != 422}) == 1
    assert sum(status == 422 for status, _ in found) == 32


def test_jobs_of_others_are_none(client: httpx.Client) -> None:
    acme, zeta = ({"x-api-key": f"{name}-{name}-{name}-{name}"} for name in ("acme", "zeta"))
    name = taken(client, "double", 1, **acme)
    assert ended(client, name, acme)["status"] == "done"
    for headers in (zeta, {}):
        refused(client.get(f"/v2/jobs/{name}", headers=headers), 404)
        refused(client.get(f"/v2/jobs/{name}/result", headers=headers), 404)
        refused(client.delete(f"/v2/jobs/{name}", headers=headers), 404)


def test_an_attempt_that_fails_is_followed_by_another(server: RunningServer, client: httpx.Client) -> None:
    attempts = server.folder / "attempts"
    attempts.write_text("")
    job = ended(client, taken(client, "breaks", 3))
    assert (job["status"], job["attempts"], len(attempts.read_text())) == ("done", 3, 3)
    attempts.write_text("")
    job = ended(client, taken(client, "breaks", 100))
    assert (job["status"], job["attempts"], len(attempts.read_text())) == ("failed", 3, 3)
    assert "ValueError" in job["error"]
    refused(client.get(f"/v2/jobs/{job['id']}/result"), 500, "ValueError")


def test_cancelling(server: RunningServer, client: httpx.Client) -> None:
    running_job = taken(client, "sleepy", 20)
    while client.get(f"/v2/jobs/{running_job}").json()["status"] == "queued":
        time.sleep(0.01)
    refused(client.get(f"/v2/jobs/{running_job}/result"), 409, "running")
    response = client.delete(f"/v2/jobs/{running_job}")
    assert (response.status_code, response.json()["cancel_asked"]) == (202, True)
    assert ended(client, running_job)["status"] == "cancelled"
    refused(client.get(f"/v2/jobs/{running_job}/result"), 410, "cancelled")
    # Who did not hear that it is cancelled, and asks again, is told so.
    again = client.delete(f"/v2/jobs/{running_job}")
    assert (again.status_code, again.json()["status"]) == (200, "cancelled")
    (server.folder / "enough").touch()
    try:
        assert ended(client, taken(client, "sleepy", 20))["status"] == "done"
    finally:
        (server.folder / "enough").unlink()


def test_a_webhook_is_told(client: httpx.Client, hook: Hooks) -> None:
    name = taken(client, "double", 1, x_webhook_url=f"{hook.url}/hook?of=jobs")
    assert told(client, name, "delivered")["attempts"] == 1
    ((path, headers, body),) = hook.got
    assert (path, headers["webhook-id"], headers["content-type"]) == ("/hook?of=jobs", name, "application/json")
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < PATIENCE_S
    assert (body["id"], body["status"], body["attempts"]) == (name, "done", 1)


def test_a_webhook_that_comes_back_is_told_under_the_same_id(client: httpx.Client, hook: Hooks) -> None:
    hook.statuses = [503]
    name = taken(client, "double", 1, x_webhook_url=hook.url)
    assert told(client, name, "delivered")["attempts"] == 2
    assert [headers["webhook-id"] for _, headers, _ in hook.got] == [name, name]


@pytest.mark.parametrize(("statuses", "said"), [([500, 500], "500"), ([307, 307], "redirects"), ([410], "410")])
def test_a_webhook_is_given_up(client: httpx.Client, hook: Hooks, statuses: list[int], said: str) -> None:
    hook.statuses = list(statuses)
    name = taken(client, "double", 1, x_webhook_url=hook.url)
    webhook = told(client, name, "given up")
    assert (webhook["attempts"], said in webhook["error"]) == (len(statuses), True)
    assert [path for path, _, _ in hook.got] == ["/"] * len(statuses)
    assert client.get(f"/v2/jobs/{name}").json()["status"] == "done"


def test_a_webhook_that_nobody_takes(client: httpx.Client, hook: Hooks) -> None:
    unused = hook.url.rpartition(":")[0] + ":9"
    webhook = told(client, taken(client, "double", 1, x_webhook_url=unused), "given up")
    assert "Connect" in webhook["error"]


def test_a_name_that_points_inside(client: httpx.Client) -> None:
    # 127.0.0.0/8 is allowed to these servers, and ::1 is not: a name with both is not told.
    name = taken(client, "double", 1, x_webhook_url="http://ip6-localhost:9/")
    webhook = told(client, name, "given up")
    assert "not on the public internet" in webhook["error"] or "no address" in webhook["error"]


def test_a_slow_webhook_holds_up_nobody_else(client: httpx.Client, hook: Hooks) -> None:
    hook.gate.clear()
    slow = [taken(client, "double", 1, x_webhook_url=f"{hook.url}/slow") for _ in range(12)]
    with hooks() as quick:
        name = taken(client, "double", 2, x_webhook_url=quick.url)
        told(client, name, "delivered")
    assert sum(client.get(f"/v2/jobs/{each}").json()["webhook"]["status"] == "pending" for each in slow) > 4
    hook.gate.set()
    for each in slow:
        ended(client, each)


def test_the_log_has_their_lives(server: RunningServer, client: httpx.Client) -> None:
    name = taken(client, "double", 1)
    ended(client, name)
    until_s = time.monotonic() + PATIENCE_S
    events: list[dict[str, Any]] = []
    while len(events) < 2 and time.monotonic() < until_s:
        events = [each for each in job_events(server.folder / ".penstock") if each["job"] == name]
        time.sleep(0.1)
    assert [(each["sequence"], each["event"], each["model"]) for each in events] == [
        (1, "accepted", "double"),
        (2, "done", "double"),
    ]


def job_events(home: Path, app: str = "jobbing") -> list[dict[str, Any]]:
    source = TopicPartition(f"{app}.jobs", 0)
    with open_log("", home, SystemClock()) as log:
        if not any(info.spec.name == source.topic for info in log.admin.topics()):
            return []
        found, offset = [], 0
        while len((fetched := log.admin.read(source, offset, records_max=10_000)).records):
            found += [json.loads(value) for value in fetched.records.values]
            offset = fetched.next_offset
    return found


def test_measures(client: httpx.Client) -> None:
    ended(client, taken(client, "double", 1))
    text = client.get("/metrics").text
    counted = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("penstock_job"))
    assert float(counted['penstock_jobs_total{state="done"}']) >= 1
    assert float(counted['penstock_jobs_total{state="queued"}']) >= 1
    assert set(counted) >= {'penstock_jobs_unfinished{state="queued"}', "penstock_jobs_due_seconds"}
    assert 'penstock_job_webhooks_total{state="given_up"}' in counted


def test_they_expire_and_the_queue_has_a_bound(commands: CommandLine) -> None:
    small = options("jobs.queued_max=2", "jobs.running_max=1", "jobs.result_ttl_s=1")
    with running(commands, APP, *small) as server, server.client() as client:
        first = taken(client, "sleepy", 20)
        while client.get(f"/v2/jobs/{first}").json()["status"] == "queued":
            time.sleep(0.01)
        expiring = taken(client, "double", 1, x_job_expires_s="0.3")
        waiting = taken(client, "double", 1)
        full = submit(client, "double", 1)
        refused(full, 503, "jobs.queued_max")
        assert full.headers["x-shed-reason"] == "jobs_full"
        job = ended(client, expiring)
        assert (job["status"], job["attempts"]) == ("expired", 0)
        (commands.folder / "enough").touch()
        assert ended(client, waiting)["status"] == "done"
        # Kept for a second, then forgotten.
        until_s = time.monotonic() + PATIENCE_S
        while client.get(f"/v2/jobs/{expiring}").status_code == 200:
            assert time.monotonic() < until_s
            time.sleep(0.05)
        refused(submit(client, "double", 1, x_webhook_url="https://example.com/"), 400, "jobs.webhook_secret")


def test_who_never_has_a_job_pays_nothing(commands: CommandLine) -> None:
    with running(commands, APP) as server, server.client() as client:
        assert client.post("/v2/models/double/infer", json=asked(1)).status_code == 200
        refused(client.get("/v2/jobs/0123"), 404)
        assert not list((commands.folder / ".penstock").glob("jobs*"))


def test_rate_limits_hold_for_them(commands: CommandLine) -> None:
    limited = APP + '\napp.limit(ps.RateLimit(per_second=0.001, burst=2), tenant="acme")\n'
    acme = {"x_api_key": "acme-acme-acme-acme"}
    with running(commands, limited) as server, server.client() as client:
        names = [taken(client, "double", 1, **acme) for _ in range(2)]
        response = submit(client, "double", 1, **acme)
        refused(response, 429)
        for name in names:
            # Not charged a second time when it runs.
            assert ended(client, name, {"x-api-key": acme["x_api_key"]})["status"] == "done"


def test_the_client(server: RunningServer, hook: Hooks) -> None:
    with penstock.Client(server.url) as client:
        at_once = client.infer("double", {"x": [1.0, 2.0]})
        job = client.submit("double", {"x": [1.0, 2.0]}, key="mine", webhook=hook.url, expires_s=60)
        answer = job.result(PATIENCE_S)
        np.testing.assert_array_equal(answer.outputs["y"], at_once.outputs["y"])
        assert (answer.model, answer.version) == (at_once.model, at_once.version)
        status = job.wait(PATIENCE_S)
        assert (status.status, status.finished, status.attempts) == ("done", True, 1)
        assert (
            client.submit("double", {"x": [1.0, 2.0]}, key="mine", webhook=hook.url, expires_s=60).id == job.id
        )
        with pytest.raises(CallRejected) as rejected:
            client.submit("double", {"x": [3.0]}, key="mine")
        assert rejected.value.status == 422
        assert not job.cancel()
        with pytest.raises(CallRejected) as rejected:
            client.job("0123").status()
        assert rejected.value.status == 404
        sleepy = client.submit("sleepy", {"x": [20.0]})
        with pytest.raises(CallTimedOut):
            sleepy.wait(0.1)
        assert sleepy.cancel()
        assert sleepy.wait(PATIENCE_S).status == "cancelled"
        with pytest.raises(CallRejected) as rejected:
            sleepy.result()
        assert rejected.value.status == 410
        with pytest.raises(BadAnswer):
            client.submit("breaks", {"x": [1e9]}).result(PATIENCE_S)
        for wrong in ({"key": ""}, {"expires_s": 0}, {"webhook": "example.com"}):
            with pytest.raises(InvalidInput):
                client.submit("double", {"x": [1.0]}, **wrong)


def test_the_asynchronous_client(server: RunningServer) -> None:
    async def asking() -> list[float]:
        async with penstock.AsyncClient(server.url) as client:
            jobs = [await client.submit("double", {"x": [float(number)]}) for number in range(5)]
            answers = await asyncio.gather(*(job.result(PATIENCE_S) for job in jobs))
            return [float(answer.outputs["y"][0]) for answer in answers]

    assert asyncio.run(asking()) == [0.0, 2.0, 4.0, 6.0, 8.0]


def test_the_command(server: RunningServer, client: httpx.Client, hook: Hooks) -> None:
    commands = CommandLine(server.folder)
    name = taken(client, "double", 1, x_webhook_url=hook.url)
    told(client, name, "delivered")
    listed = json.loads(commands.succeeds_inside("jobs", "list", "--state", "done", "--json"))
    assert {"double"} == {each["model"] for each in listed if each["id"] == name}
    assert name in commands.succeeds_inside("jobs", "list")
    shown = commands.succeeds_inside("jobs", "show", name)
    assert "status: done" in shown
    assert "status delivered" in shown
    assert json.loads(commands.succeeds_inside("jobs", "show", name, "--json"))["tenant"] == "@127.0.0.1"
    assert "done already" in commands.fails_inside("jobs", "cancel", name)
    assert "no job" in commands.fails_inside("jobs", "show", "0123")
    assert "no state" in commands.fails_inside("jobs", "list", "--state", "over")
    sleepy = taken(client, "sleepy", 20)
    while client.get(f"/v2/jobs/{sleepy}").json()["status"] == "queued":
        time.sleep(0.01)
    assert "it runs" in commands.inside("jobs", "cancel", sleepy).stderr
    assert ended(client, sleepy)["status"] == "cancelled"
    assert "jobs  0 queued, " in commands.inside("status").stdout


def test_the_command_where_there_never_was_a_job(commands: CommandLine) -> None:
    assert "no job was ever taken on" in commands.fails_inside("jobs", "list")


def test_threads_poll_while_others_submit(server: RunningServer) -> None:
    failures: list[str] = []

    def work(number: int) -> None:
        with server.client() as client:
            for turn in range(10):
                x = float(100 * number + turn)
                name = taken(client, "double", x)
                if ended(client, name)["status"] != "done":
                    failures.append(name)
                if client.get(f"/v2/jobs/{name}/result").json()["outputs"][0]["data"] != [2 * x]:
                    failures.append(name)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_two_apps_with_one_home(commands: CommandLine) -> None:
    """Each runs its own jobs: one that another app takes would be answered by that one's model, or by none."""
    other = APP.replace('"jobbing"', '"meddling"').replace("2 * inputs", "5 * inputs")
    same = options("jobs.poll_s=0.02", f"home={commands.folder / 'home'}")
    with running(commands, APP, *same) as first, first.client() as client:
        taken(client, "double", 0)
        others = CommandLine(commands.folder / "others")
        others.folder.mkdir()
        with running(others, other, *same) as second, second.client() as meddler:
            taken(meddler, "double", 0)
            names = [taken(client, "double", 1) for _ in range(30)]
            keys = {submit(each, "double", 1, idempotency_key="k").json()["id"] for each in (client, meddler)}
            assert len(keys) == 2
            for name in names:
                refused(meddler.get(f"/v2/jobs/{name}"), 404)
                assert ended(client, name)["status"] == "done"
                assert client.get(f"/v2/jobs/{name}/result").json()["outputs"][0]["data"] == [2.0]
        listed = commands.succeeds_inside(
            "jobs", "list", "--json", "--count", "100", *options(f"home={commands.folder / 'home'}")
        )
        assert {each["app"] for each in json.loads(listed)} == {"jobbing", "meddling"}
