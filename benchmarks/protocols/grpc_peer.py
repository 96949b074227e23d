"""gRPC unary: Penstock against MLServer, one row of 30 floats, the same ONNX file, the same client.

The claim is Penstock with tensors in raw contents over MLServer with whichever form it is faster with.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.harness.cores import pinned
from benchmarks.harness.figure import Claim, FigureFailed, Result
from benchmarks.harness.processes import Service, free_ports
from benchmarks.harness.report import median, ratio
from benchmarks.protocols.figure import Bench
from benchmarks.protocols.server import Start, serving
from benchmarks.protocols.v2_messages import INFER_METHOD, infer_request, output_floats
from benchmarks.serving.systems import PEERS

__all__ = ["measure"]

CLIENTS = 2
CONCURRENCY = 64
FORMS = ("raw", "typed")
BUSY_SHARE = 0.9
GRACE_S = 60.0
READY_S_MAX = 60.0
TOLERANCE = 1e-5
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class Calls:
    """What all clients together saw of one server; `client_share` is of one core."""

    rps: float
    p50_us: float
    p99_us: float
    client_share: float


def measure(bench: Bench) -> Result:
    """Both servers stand all the time and are asked in turn; only the one that is asked works."""
    rounds, seconds, warmup_s = (1, 0.8, 0.2) if bench.quick else (7, 4.0, 1.0)
    forms = FORMS[:1] if bench.quick else FORMS
    requirements = PEERS / "requirements-mlserver.txt"
    bench.environments.prepare("mlserver", requirements)
    seen: dict[tuple[str, str], list[Calls]] = {}
    with serving(bench, "grpc", Start(app="late", grpc=True)) as ours, _mlserver(bench) as peer_port:
        ports = {"Penstock": ours.grpc_port, "MLServer": peer_port}
        messages = {form: _messages(bench, form) for form in forms}
        for port in ports.values():
            for form in forms:
                _check(bench, port, form)
        for number in range(rounds):
            for form in forms:
                for name in ports if number % 2 == 0 else reversed(ports):
                    calls = _call(bench, ports[name], messages[form], seconds, warmup_s)
                    seen.setdefault((name, form), []).append(calls)
                    bench.say(
                        f"grpc {number + 1}/{rounds}  {name} {form:6} {calls.rps:9,.0f} calls/s, "
                        f"client at {calls.client_share:.0%} of its core"
                    )
    packages = ("grpcio", "protobuf", "onnxruntime", "mlserver")
    versions = {
        "Penstock": bench.environments.versions(None, ("penstock", *packages[:3])),
        "MLServer": bench.environments.versions("mlserver", packages),
    }
    return _result(seen, versions)


@contextmanager
def _mlserver(bench: Bench) -> Iterator[int]:
    http, grpc = free_ports(2)
    mlserver = str(bench.environments.python("mlserver").parent / "mlserver")
    environment = {
        "MLSERVER_HTTP_PORT": str(http),
        "MLSERVER_GRPC_PORT": str(grpc),
        "PYTHONPATH": str(PEERS / "mlserver"),
        "BENCH_MODEL_ONNX": str(bench.model.onnx),
        "OMP_NUM_THREADS": "1",
    }
    with Service(
        [mlserver, "start", str(PEERS / "mlserver")],
        cores=frozenset({bench.cores.server}),
        log=bench.folder / "log" / "protocols-mlserver.log",
        folder=PEERS / "mlserver",
        environment=environment,
    ) as service:
        _wait_until_it_answers(bench, service, grpc)
        yield grpc


def _wait_until_it_answers(bench: Bench, service: Service, port: int) -> None:
    until_s = time.monotonic() + READY_S_MAX
    while True:
        try:
            _check(bench, port, FORMS[0])
        except FigureFailed as error:
            service.check_alive()
            if time.monotonic() > until_s:
                raise service.failed(f"no good answer within {READY_S_MAX:.0f} s: {error}") from error
            time.sleep(0.05)
        else:
            return


def _messages(bench: Bench, form: str) -> list[Path]:
    folder = bench.scratch("messages") / form
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number, row in enumerate(bench.rows.features):
        files.append(folder / str(number))
        files[-1].write_bytes(infer_request("late", "x", np.array([row], np.float32), raw=form == "raw"))
    return files


def _check(bench: Bench, port: int, form: str) -> None:
    """Every row once: the answer must be what scikit-learn says. Raises `FigureFailed`."""
    import grpc

    options = (("grpc.use_local_subchannel_pool", 1),)
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        call = channel.unary_unary(INFER_METHOD)
        for row, expected in zip(bench.rows.features, bench.rows.probabilities, strict=True):
            message = infer_request("late", "x", np.array([row], np.float32), raw=form == "raw")
            try:
                said = output_floats(call(message, timeout=5.0), "probabilities")[-1]
            except grpc.RpcError as error:
                raise FigureFailed(f"{form}: {error.code()}: {error.details()}") from error
            if abs(said - expected) > TOLERANCE:
                raise FigureFailed(f"{form}: said {said}, scikit-learn says {expected}")


def _call(bench: Bench, port: int, messages: Sequence[Path], seconds: float, warmup_s: float) -> Calls:
    command = [sys.executable, "-m", "benchmarks.protocols.grpc_client", f"127.0.0.1:{port}"]
    command += [*map(str, messages), "--concurrency", str(CONCURRENCY // CLIENTS)]
    command += ["--seconds", str(seconds), "--warmup", str(warmup_s)]
    with pinned(bench.cores.load):
        clients = [
            subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for _ in range(CLIENTS)
        ]
    try:
        told = [client.communicate(timeout=seconds + warmup_s + GRACE_S) for client in clients]
    except subprocess.TimeoutExpired as error:
        raise FigureFailed(f"a gRPC client did not end within {error.timeout:.0f} s") from error
    finally:
        for client in clients:
            if client.poll() is None:
                client.kill()
                client.communicate()
    for client, (_, errors) in zip(clients, told, strict=True):
        if client.returncode:
            raise FigureFailed(f"a gRPC client failed: {errors.strip()[-1000:]}")
    return _together([json.loads(output) for output, _ in told])


def _together(seen: Sequence[dict]) -> Calls:
    failures = {kind: count for each in seen for kind, count in each["failures"].items()}
    if failures:
        raise FigureFailed(f"not every gRPC call was answered: {failures}")
    latencies = sorted(latency for each in seen for latency in each["latencies_us"])
    if not latencies:
        raise FigureFailed("no gRPC call was answered")
    return Calls(
        rps=sum(each["answered"] / each["seconds"] for each in seen),
        p50_us=float(latencies[len(latencies) // 2]),
        p99_us=float(latencies[int(0.99 * (len(latencies) - 1))]),
        client_share=sum(each["cpu_s"] / each["seconds"] for each in seen),
    )


def _result(seen: dict[tuple[str, str], list[Calls]], versions: dict[str, dict[str, str]]) -> Result:
    rps = {key: median(calls.rps for calls in each) for key, each in seen.items()}
    peer = max(value for (name, _), value in rps.items() if name == "MLServer" and value is not None)
    shares = {
        name: median(calls.client_share for (asked, _), each in seen.items() if asked == name for calls in each)
        for name in versions
    }
    remarks = [
        f"the client took {share:.0%} of its core with {name}: {name} can do more than is said here"
        for name, share in shares.items()
        if share is not None and share > BUSY_SHARE
    ]
    lines = []
    for (name, form), each in seen.items():
        p50_us = median(calls.p50_us for calls in each) or 0.0
        p99_us = median(calls.p99_us for calls in each) or 0.0
        lines.append(
            (
                f"{name}, {form}: calls/s, p50 ms, p99 ms",
                f"{rps[name, form]:,.0f}, {p50_us / 1e3:.1f}, {p99_us / 1e3:.1f}",
            )
        )
    return Result(
        name="grpc",
        claims=(Claim(name="grpc_vs_mlserver", value=ratio(rps["Penstock", "raw"], peer), at_least=2.0),),
        facts={
            "calls_per_s": {f"{name} {form}": value for (name, form), value in rps.items()},
            "rounds": {f"{n} {f}": [round(c.rps) for c in each] for (n, f), each in seen.items()},
            "client_share_of_core": shares,
            "clients": CLIENTS,
            "concurrency": CONCURRENCY,
            "versions": versions,
        },
        lines=lines,
        remarks=remarks,
    )
