"""`POST /models/NAME/invocations` with one row of 30 floats in each of its forms, against V2 JSON."""

import json

from benchmarks.harness.figure import Claim, FigureFailed, Result
from benchmarks.harness.load import Load
from benchmarks.harness.penstock import Server, ask
from benchmarks.harness.report import median, ratio
from benchmarks.protocols.bodies import check_late, invocations, late_target, rows_target
from benchmarks.protocols.figure import Bench
from benchmarks.protocols.server import Start, serving

__all__ = ["measure"]

FORMS = ("instances", "inputs", "dataframe_split", "dataframe_records")
CONNECTIONS = 64
TOLERANCE = 1e-5


def measure(bench: Bench) -> Result:
    """All forms and V2 in turn, on one server. The claim is about the slowest form."""
    rounds, seconds, warmup_s = (1, 0.6, 0.2) if bench.quick else (7, 4.0, 0.5)
    seen: dict[str, list[Load]] = {}
    with serving(bench, "rows", Start(app="late")) as server:
        check_late(bench, server, binary=False)
        _check_forms(bench, server)
        targets = {form: rows_target(bench, server.port, form) for form in FORMS}
        targets["v2"] = late_target(bench, server.port, binary=False)
        for number in range(rounds):
            order = list(targets) if number % 2 == 0 else list(reversed(targets))
            for name in order:
                load = bench.load.run(
                    targets[name], connections=CONNECTIONS, seconds=seconds, warmup_s=warmup_s
                )
                if load.failed or load.early:
                    raise server.service.failed(f"{name}: not all was answered with 200: {load.failures}")
                seen.setdefault(name, []).append(load)
                bench.say(f"rows {number + 1}/{rounds}  {name:18} {load.rps:10,.1f} requests/s")
    rps = {name: median(load.rps for load in loads) for name, loads in seen.items()}
    return Result(
        name="rows",
        claims=tuple(
            Claim(name=f"invocations_vs_v2_{form}", value=ratio(rps[form], rps["v2"]), at_least=0.7)
            for form in FORMS
        ),
        facts={"rps": rps, "rounds": {name: [round(load.rps, 1) for load in seen[name]] for name in seen}},
        lines=[(f"{name}, requests/s", f"{value:,.0f}") for name, value in rps.items() if value is not None],
    )


def _check_forms(bench: Bench, server: Server) -> None:
    """Every row in every form: the answer holds what scikit-learn says, wherever in it that stands."""
    for form in FORMS:
        for row, expected in zip(bench.rows.features, bench.rows.probabilities, strict=True):
            body, headers = invocations(form, row)
            answer = ask(server.port, "/models/late/invocations", body, headers)
            if answer.status != 200:
                raise FigureFailed(f"invocations, {form}: status {answer.status}: {answer.body[:300]!r}")
            if not any(abs(value - expected) <= TOLERANCE for value in _numbers(json.loads(answer.body))):
                raise FigureFailed(
                    f"invocations, {form}: scikit-learn says {expected}, not {answer.body[:300]!r}"
                )


def _numbers(document: object) -> list[float]:
    if isinstance(document, dict):
        return [number for value in document.values() for number in _numbers(value)]
    if isinstance(document, list):
        return [number for value in document for number in _numbers(value)]
    return [float(document)] if isinstance(document, int | float) else []
