"""Requests of a model with features of two views, beside those of a model with none; from the same callers."""

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import polars as pl
from onnx import TensorProto, helper

from benchmarks.features.bench import Bench
from benchmarks.harness.figure import Claim, FigureFailed, Result
from benchmarks.harness.load import Load, LoadGenerator, Target
from benchmarks.harness.penstock import Server, ask
from benchmarks.harness.processes import Service, free_ports
from benchmarks.harness.report import median
from penstock.app.loader import open_registry
from penstock.app.loading import load_app
from penstock.core.settings import Settings
from penstock.features.embedded import EmbeddedOnlineStore
from penstock.features.online import Progress, Update
from penstock.features.timeline import TimelineRows, write_timelines
from penstock.features.view import FeatureView, encode_keys
from penstock.models.push import Provenance
from penstock.models.push import prepare as candidate
from penstock.models.registry import CHAMPION

__all__ = ["measure"]

APP = Path(__file__).with_name("app.py")
SENT = ("distance", "hour")
KEYS = ("origin", "carrier")
FEATURES = ("departures", "mean_delay", "worst_delay", "flights", "mean", "least")
KEYS_OF_VIEW = 1000
BODIES = 200
JSON = {"content-type": "application/json"}
CONNECTIONS = 64
STEPS = 13
STEP_MS = 300_000
AT_MS = 1_700_000_000_000


def measure(bench: Bench) -> Result:
    """In turns, on one server; callers of both send two numbers and two keys in each request."""
    folder = bench.folder / "requests"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in ("plain", "featured"):
        push(folder, name)
    fill(folder)
    load = LoadGenerator.build(bench.folder, core=bench.cores.load)
    pairs = []
    with serving(bench, folder) as server:
        check(server)
        for number in range(bench.plan.pairs):
            order = ("plain", "featured") if number % 2 == 0 else ("featured", "plain")
            seen = {name: run(bench, load, server, folder, name) for name in order}
            pairs.append({name: each.rps for name, each in seen.items()} | {"p99_us": seen["featured"].p99_us})
            bench.say(f"{pairs[-1]['featured']:,.0f} of {pairs[-1]['plain']:,.0f} requests/s")
    shutil.rmtree(folder)
    kept = median(pair["featured"] / pair["plain"] for pair in pairs)
    return Result(
        name="requests",
        claims=(Claim(name="throughput_with_two_views", value=kept, at_least=0.6),),
        facts={"pairs": pairs, "connections": CONNECTIONS},
        lines=[
            ("without features", f"{median(pair['plain'] for pair in pairs):,.0f} requests/s"),
            ("with features of two views", f"{median(pair['featured'] for pair in pairs):,.0f} requests/s"),
            ("p99 with features", f"{median(pair['p99_us'] for pair in pairs):,.0f} µs"),
        ],
        remarks=[
            f"{CONNECTIONS} connections, one row in JSON each; server and load have a core each.",
            "What is served is recorded; the stream's worker runs beside, without events.",
        ],
    )


def push(home: Path, name: str) -> None:
    """A model that adds its inputs up: `plain` takes what callers send, `featured` features beside that."""
    floats = (*SENT, *FEATURES) if name == "featured" else SENT
    takes = [helper.make_tensor_value_info(each, TensorProto.FLOAT, [None]) for each in floats]
    nodes, summed = [], list(floats)
    if name == "plain":
        for key in KEYS:
            takes.append(helper.make_tensor_value_info(key, TensorProto.INT64, [None]))
            nodes.append(helper.make_node("Cast", [key], [f"{key}_float"], to=TensorProto.FLOAT))
            summed.append(f"{key}_float")
    nodes.append(helper.make_node("Sum", summed, ["y"]))
    gives = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None])]
    graph = helper.make_graph(nodes, name, takes, gives)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    file, samples = home / f"{name}.onnx", home / f"{name}.parquet"
    onnx.save(model, file)
    integers = KEYS if name == "plain" else ()
    columns = {each: np.arange(64, dtype=np.float32) for each in floats}
    pl.DataFrame(columns | {each: np.arange(64) for each in integers}).write_parquet(samples)
    pushed = candidate(
        name, file, samples=samples, trust_pickle=False, provenance=Provenance(creator="benchmark")
    )
    with open_registry(Settings(home=str(home))) as registry:
        registry.push(pushed)
        registry.move_alias(name, CHAMPION, to=1)


def fill(home: Path) -> None:
    app, _ = load_app(str(APP))
    store = EmbeddedOnlineStore(home)
    for declared in app.streams.features.values():
        writer = store.writer(declared.view)
        writer.put(0, updates(declared.view), Progress(0, AT_MS, KEYS_OF_VIEW, AT_MS))
        writer.close()


def updates(view: FeatureView) -> list[Update]:
    """Key k has k in each feature, whenever."""
    numbers = np.repeat(np.arange(KEYS_OF_VIEW), STEPS)
    columns = [numbers.astype(each.datatype.numpy) for each in view.features]
    from_ms = np.tile(AT_MS - STEP_MS + np.arange(STEPS) * STEP_MS, KEYS_OF_VIEW)
    rows = TimelineRows(from_ms, columns, [None] * len(columns), np.full(KEYS_OF_VIEW, STEPS))
    keys = encode_keys([list(range(KEYS_OF_VIEW))])
    lines = write_timelines(rows)
    return [Update(key, number, AT_MS, lines[number]) for number, key in enumerate(keys)]


@contextmanager
def serving(bench: Bench, home: Path) -> Iterator[Server]:
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "penstock", "run", str(APP), "--port", str(port)]
    environment = {"PENSTOCK_HOME": str(home)}
    log = bench.folder / "requests.log"
    cores = frozenset({bench.cores.server})
    with Service(command, cores=cores, log=log, folder=home, environment=environment) as service:
        server = Server(service, home=home, port=port, grpc_port=-1, workers=1)
        server.wait_until_ready()
        yield server


def body(number: int) -> bytes:
    key = number % KEYS_OF_VIEW
    floats = [{"name": name, "datatype": "FP32", "shape": [1], "data": [0.5]} for name in SENT]
    keys = [{"name": name, "datatype": "INT64", "shape": [1], "data": [key]} for name in KEYS]
    return json.dumps({"inputs": [*floats, *keys]}).encode()


def check(server: Server) -> None:
    """Raises `FigureFailed` for another answer than the sum of what is known of the keys."""
    for name, number, wanted in (("plain", 7, 15.0), ("featured", 7, 43.0), ("featured", 999, 5995.0)):
        answer = ask(
            server.port, f"/v2/models/{name}/infer", body(number), {"content-type": "application/json"}
        )
        given = json.loads(answer.body)["outputs"][0]["data"] if answer.status == 200 else answer.body
        if given != [wanted]:
            raise FigureFailed(f"{name} gave {given!r}, not {wanted}")


def run(bench: Bench, load: LoadGenerator, server: Server, folder: Path, name: str) -> Load:
    bodies = []
    for number in range(BODIES):
        bodies.append(folder / f"body-{number}")
        bodies[-1].write_bytes(body(number * 5))
    target = Target(
        port=server.port,
        path=f"/v2/models/{name}/infer",
        bodies=bodies,
        headers=[f"{key}: {value}" for key, value in JSON.items()],
    )
    seconds = bench.plan.load_s
    seen = load.run(target, connections=CONNECTIONS, seconds=seconds, warmup_s=seconds / 4)
    if seen.failed:
        raise FigureFailed(f"{name}: {seen.failures}")
    return seen
