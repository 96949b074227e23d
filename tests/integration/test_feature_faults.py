"""Models with features when something is amiss: views that do not fit, stores that are damaged."""

import time
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import onnx
import polars as pl
import pytest
from command_line import CommandLine
from feature_views import VIEWS_IN_APP, put_rows, view_of
from onnx import TensorProto, helper
from running_server import RunningServer, outputs, running, v2_json
from test_hot_swap import problems

from penstock.features.online import Progress

LEGS = view_of("legs", {"origin": "STRING"}, {"delay": ("FP64", 2.5)})
SIGNATURE = 'Signature.of(inputs={"delay": "FP32[-1]", "n": "INT32[-1]"}, outputs={"y": "FP32[-1]"})'


def app_of(features: str, further: str = "", signature: str = SIGNATURE) -> str:
    return (
        VIEWS_IN_APP
        + f"""
import penstock as ps
from penstock import Signature
app = ps.App("tests", objective=ps.Objective(latency_ms=60_000))
@app.callable("model", signature={signature}, features=[{features}]{further})
def model(inputs):
    return {{"y": inputs["delay"]}}
"""
    )


LEGS_DECLARED = 'View("legs", {"origin": "STRING"}, {"delay": ("FP64", 2.5)})'
PLAIN = app_of(LEGS_DECLARED, signature='Signature.of(inputs={"delay": "FP32[-1]"}, outputs={"y": "FP32[-1]"})')


def wait_until(holds: Callable[[], bool], seconds: float = 30) -> None:
    started_s = time.monotonic()
    while not holds():
        assert time.monotonic() - started_s < seconds, "it never came to hold"
        time.sleep(0.05)


def delay(client: httpx.Client, *origins: str) -> list[float]:
    inputs = {"origin": np.array(origins, dtype=object)}
    given: list[float] = outputs(client.post("/v2/models/model/infer", json=v2_json(inputs)))["y"].tolist()
    return given


def home(server: RunningServer) -> Path:
    return server.folder / ".penstock"


@pytest.mark.parametrize(
    ("features", "further", "said"),
    [
        (
            'View("v", {"k": "STRING"}, {"speed": ("FP64", 0.0)})',
            "",
            "of feature view 'v' (speed) nothing is an input; the model takes delay FP32[-1], n INT32[-1]",
        ),
        (
            'View("v", {"k": "STRING"}, {"delay": ("FP64", float("nan"))})',
            "",
            "feature 'delay' of 'v' is nan where it is missing; input FP32[-1] has no place for that",
        ),
        (
            'View("v", {"k": "STRING"}, {"n": ("FP64", 0.0)})',
            "",
            "feature 'n' of 'v' is FP64, and the input of that name INT32",
        ),
        (
            'View("v", {"k": "STRING"}, {"n": ("INT64", 2**40)})',
            "",
            "feature 'n' of 'v' is 1099511627776 where it is missing; input INT32[-1] has no place for that",
        ),
        (
            'View("v", {"n": "STRING"}, {"delay": ("FP64", 0.0)})',
            "",
            "input 'n' is INT32[-1], and the key of 'v' that comes from it STRING",
        ),
        (
            (
                'View("v", {"k": "STRING"}, {"delay": ("FP64", 0.0)}),'
                ' View("w", {"k": "INT64"}, {"n": ("INT64", 0)})'
            ),
            "",
            "key 'k' is STRING in one view, and INT64 in 'w'",
        ),
        (
            'View("v", {"k": "INT64"}, {"delay": ("FP64", 0.0), "n": ("INT64", 0)})',
            ', feature_keys={"k": "n"}',
            "callers send 'n' for 'v', and 'v' fills it",
        ),
        (
            (
                'View("v", {"k": "STRING"}, {"delay": ("FP64", 0.0)}),'
                ' View("w", {"k": "STRING"}, {"delay": ("FP64", 0.0)})'
            ),
            "",
            "'delay' is a feature of 'v' and of 'w'",
        ),
        (
            'View("v", {"k": "STRING"}, {"delay": ("FP64", 0.0)})',
            ', feature_keys={"q": "n"}',
            "feature_keys has 'q'",
        ),
        ("42", "", "42 is no feature view"),
    ],
)
def test_a_model_that_features_do_not_fit_is_refused_at_the_start_with_the_names(
    commands: CommandLine, features: str, further: str, said: str
) -> None:
    (commands.folder / "app.py").write_text(app_of(features, further))
    error = commands.fails("run", commands.folder / "app.py", "--port", "0")
    assert said in error
    assert "hint: " in error or "app file" in error


def test_a_model_of_one_matrix_is_told_that_it_has_no_names(commands: CommandLine) -> None:
    signature = 'Signature.of(inputs={"x": "FP32[-1, 30]"}, outputs={"y": "FP32[-1]"})'
    (commands.folder / "app.py").write_text(app_of(LEGS_DECLARED, signature=signature))
    assert "a model of one matrix has no names" in commands.fails(
        "run", commands.folder / "app.py", "--port", "0"
    )


def named_onnx(folder: Path, *names: str) -> tuple[Path, Path]:
    """An ONNX file that adds up its inputs, and samples for it."""
    takes = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None]) for name in names]
    gives = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None])]
    graph = helper.make_graph([helper.make_node("Sum", list(names), ["y"])], "sum", takes, gives)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    file, samples = folder / f"{'-'.join(names)}.onnx", folder / f"{'-'.join(names)}.parquet"
    onnx.save(model, file)
    pl.DataFrame({name: np.arange(20, dtype=np.float32) for name in names}).write_parquet(samples)
    return file, samples


def test_a_version_that_features_do_not_fit_leaves_the_old_one_in_place_and_says_why(
    commands: CommandLine,
) -> None:
    app = (
        VIEWS_IN_APP
        + f"""
import penstock as ps
app = ps.App("tests", objective=ps.Objective(latency_ms=60_000))
app.model("model", features=[{LEGS_DECLARED}])
"""
    )
    for names in (("delay", "n"), ("speed", "n"), ("n", "delay", "m")):
        file, samples = named_onnx(commands.folder, *names)
        commands.succeeds_inside("model", "push", "model", file, "--samples", samples)

    def move(number: int) -> None:
        commands.succeeds_inside("model", "alias", "model", "champion", str(number))

    def ask(client: httpx.Client, **inputs: float) -> httpx.Response:
        given = {"origin": np.array(["JFK"], dtype=object)}
        given |= {name: np.array([value], np.float32) for name, value in inputs.items()}
        return client.post("/v2/models/model/infer", json=v2_json(given))

    move(1)
    with running(commands, app) as server, server.client() as client:
        put_rows(home(server), LEGS, {("JFK",): [(0, {"delay": 30.0})]}, Progress(0, 5, 9, 0))
        assert outputs(ask(client, n=1.0))["y"].tolist() == [31.0]
        move(2)
        wait_until(lambda: len(problems(commands)) == 1)
        (problem,) = problems(commands)
        assert "version 2 is not served" in problem
        assert "of feature view 'legs' (delay) nothing is an input" in problem
        assert "the model takes speed FP32[-1], n FP32[-1]" in problem
        assert "version 1 answers" in problem
        assert outputs(ask(client, n=1.0))["y"].tolist() == [31.0]
        assert client.get("/v2/health/ready").status_code == 200
        move(3)
        wait_until(lambda: ask(client, n=1.0, m=2.0).status_code == 200)
        assert outputs(ask(client, n=1.0, m=2.0))["y"].tolist() == [33.0]
        wait_until(lambda: problems(commands) == [])


def test_a_store_that_is_damaged_costs_defaults_and_is_told_of(commands: CommandLine) -> None:
    with running(commands, PLAIN) as server, server.client() as client:
        assert delay(client, "JFK") == [2.5], "nobody has written anything yet"
        assert problems(commands) == []
        put_rows(home(server), LEGS, {("JFK",): [(0, {"delay": 30.0})]}, Progress(0, 5, 9, 0))
        assert delay(client, "JFK", "LGA") == [30.0, 2.5]

        path = home(server) / "features" / "online.db"
        whole = path.read_bytes()
        path.unlink()
        path.write_bytes(b"this is no database" * 1000)
        wait_until(lambda: delay(client, "JFK") == [2.5])
        wait_until(lambda: len(problems(commands)) == 1)
        (problem,) = problems(commands)
        assert "defaults are served" in problem
        assert "online features" in problem
        assert "file is not a database" in server.log
        assert client.get("/v2/health/ready").status_code == 200

        path.unlink()
        path.write_bytes(whole)
        assert delay(client, "JFK") == [30.0]
        metrics = client.get("/metrics").text
        assert 'penstock_feature_failures_total{view="legs"} 1' in metrics


def test_a_stale_view_gives_defaults_until_it_is_heard_of_again(commands: CommandLine) -> None:
    app = PLAIN.replace('("FP64", 2.5)})', '("FP64", 2.5)}, stale_s=3600.0)')
    with running(commands, app) as server, server.client() as client:
        rows = {("JFK",): [(0, {"delay": 30.0})]}
        put_rows(home(server), LEGS, rows, Progress(0, 5, 9, int((time.time() - 3700) * 1000)))
        assert delay(client, "JFK", "LGA") == [2.5, 2.5]
        stale = 'penstock_feature_defaults_total{view="legs",feature="delay",reason="stale"} 2'
        assert sorted(stale[stale.index("{") + 1 : stale.index("}")].split(",")) in [
            sorted(line[line.index("{") + 1 : line.index("}")].split(","))
            for line in client.get("/metrics").text.splitlines()
            if line.startswith("penstock_feature_defaults_total{") and line.endswith(" 2")
        ]
        put_rows(home(server), LEGS, {}, Progress(0, 6, 9, int(time.time() * 1000)))
        assert delay(client, "JFK", "LGA") == [30.0, 2.5]


def test_a_log_that_cannot_be_written_costs_no_answer_and_is_counted(commands: CommandLine) -> None:
    (commands.folder / ".penstock").mkdir()
    (commands.folder / ".penstock" / "log").write_text("a file where the folder should be")
    with running(commands, PLAIN) as server, server.client() as client:
        assert delay(client, "JFK", "LGA") == [2.5, 2.5]
        wait_until(lambda: "penstock_served_lost_total 2" in client.get("/metrics").text)
        assert "what was served is not recorded" in server.log
        assert "Traceback" not in server.log


def test_nothing_is_recorded_where_nobody_wants_that(commands: CommandLine) -> None:
    with running(commands, PLAIN, "--set", "features.served_log=false") as server, server.client() as client:
        assert delay(client, "JFK") == [2.5]
        assert server.end() == 0
    assert not (commands.folder / ".penstock" / "log").exists()
