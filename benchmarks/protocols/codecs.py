"""Binary tensors against JSON, on one server: a row of 30 floats, and an image of 3×224×224."""

import json

import numpy as np

from benchmarks.harness.figure import Claim, FigureFailed, Result
from benchmarks.harness.load import Load, Target
from benchmarks.harness.penstock import Server, ask
from benchmarks.harness.report import median, ratio
from benchmarks.protocols.bodies import (
    INFER_IMAGE,
    check_late,
    image_target,
    images,
    late_target,
)
from benchmarks.protocols.figure import Bench
from benchmarks.protocols.server import Start, serving

__all__ = ["measure"]

CONNECTIONS = {"row": 64, "image": 8}
MEAN_TOLERANCE = 1e-4


def measure(bench: Bench) -> Result:
    """Both sizes in both codecs, in turn, so that whatever the machine does meanwhile hits all of them."""
    rounds, seconds, warmup_s = (1, 0.8, 0.2) if bench.quick else (7, 4.0, 0.5)
    seen: dict[str, list[Load]] = {}
    with serving(bench, "codecs", Start(app="codecs")) as server:
        check_late(bench, server, binary=False)
        check_late(bench, server, binary=True)
        targets = _targets(bench, server.port)
        _check_images(server, targets)
        for number in range(rounds):
            order = list(targets) if number % 2 == 0 else list(reversed(targets))
            for name in order:
                connections = CONNECTIONS[name.partition(" ")[0]]
                load = bench.load.run(
                    targets[name], connections=connections, seconds=seconds, warmup_s=warmup_s
                )
                if load.failed or load.early:
                    raise server.service.failed(f"{name}: not all was answered with 200: {load.failures}")
                seen.setdefault(name, []).append(load)
                bench.say(f"codecs {number + 1}/{rounds}  {name:14} {load.rps:10,.1f} requests/s")
    rps = {name: median(load.rps for load in loads) for name, loads in seen.items()}
    return Result(
        name="codecs",
        claims=(
            Claim(name="binary_vs_json_row", value=ratio(rps["row binary"], rps["row json"]), at_least=1.0),
            Claim(
                name="binary_vs_json_image", value=ratio(rps["image binary"], rps["image json"]), at_least=5.0
            ),
        ),
        facts={
            "rps": rps,
            "rounds": {name: [round(load.rps, 1) for load in loads] for name, loads in seen.items()},
            "p99_us": {name: median(load.p99_us for load in loads) for name, loads in seen.items()},
            "body_bytes": {name: targets[name].bodies[0].stat().st_size for name in targets},
            "connections": CONNECTIONS,
        },
        lines=[(f"{name}, requests/s", f"{value:,.0f}") for name, value in rps.items() if value is not None],
    )


def _targets(bench: Bench, port: int) -> dict[str, Target]:
    return {
        "row json": late_target(bench, port, binary=False),
        "row binary": late_target(bench, port, binary=True),
        "image json": image_target(bench, port, binary=False),
        "image binary": image_target(bench, port, binary=True),
    }


def _check_images(server: Server, targets: dict[str, Target]) -> None:
    """The means of the channels as numpy says them, in both codecs."""
    for name in ("image json", "image binary"):
        for file, image in zip(targets[name].bodies, images(), strict=True):
            headers = dict(each.split(": ", 1) for each in targets[name].headers)
            answer = ask(server.port, INFER_IMAGE, file.read_bytes(), headers)
            if answer.status != 200:
                raise FigureFailed(f"{name}: status {answer.status}: {answer.body[:300]!r}")
            said = _binary_means(answer.body, answer.headers) if "binary" in name else _json_means(answer.body)
            wanted = image.astype(np.float64).mean(axis=(0, 2, 3))
            if said.shape != wanted.shape or np.abs(said - wanted).max() > MEAN_TOLERANCE:
                raise FigureFailed(f"{name}: said {said}, numpy says {wanted}")


def _json_means(body: bytes) -> np.ndarray:
    return np.ravel(json.loads(body)["outputs"][0]["data"])


def _binary_means(body: bytes, headers) -> np.ndarray:  # type: ignore[no-untyped-def]
    return np.frombuffer(body[int(headers["inference-header-content-length"]) :], "<f4")
