"""Models with features, asked as their callers ask them: over every protocol of a real server."""

import io
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl
import pytest
from command_line import CommandLine, copy_home
from feature_views import VIEWS_IN_APP, put_rows, view_of
from running_server import RunningServer, outputs, running, v2_binary, v2_json
from sample_models import SampleModel

from penstock.core.clock import SystemClock
from penstock.features.online import Progress
from penstock.log.embedded import EmbeddedLog
from penstock.log.records import TopicPartition

APP = (
    VIEWS_IN_APP
    + """
import numpy as np
import penstock as ps
from penstock import Signature

app = ps.App("tests", objective=ps.Objective(latency_ms=60_000))
congestion = View("congestion", {"origin": "STRING", "gate": "INT64"},
                  {"delay": ("FP64", 2.5), "flights": ("INT64", -1), "closed": ("BOOL", True)})
weather = View("weather", {"airport": "STRING"}, {"distance": ("FP64", 1000.0), "unused": ("INT64", 5)})
app.model("late", features=[View("legs", {"origin": "STRING"}, {"delay": ("FP64", 2.5)}), weather],
          feature_keys={"airport": "origin"}, fallback=[ps.constant(label="late", probabilities=[0.5, 0.5])])

SEEN = Signature.of(
    inputs={"delay": "FP32?[-1]", "flights": "INT32[-1, 1]", "closed": "FP32[-1]", "gate": "INT64[-1]",
            "factor": "FP64[-1]"},
    outputs={"seen": "FP64?[-1, 4]"},
)

@app.callable("seen", signature=SEEN, features=[congestion], cache=ps.Cache(ttl="1h"))
def seen(inputs):
    columns = [inputs["delay"], inputs["flights"][:, 0], inputs["closed"], inputs["gate"]]
    return {"seen": np.stack(columns, axis=1).astype(np.float64) * inputs["factor"][:, None]}

@app.callable("then", signature=Signature.of(inputs={"delay": "FP64[-1]"}, outputs={"y": "FP64[-1]"}),
              features=[View("legs", {"origin": "STRING"}, {"delay": ("FP64", 2.5)})], feature_time="at")
def then(inputs):
    return {"y": inputs["delay"]}

@app.callable("broken", signature=Signature.of(inputs={"delay": "FP64[-1]"}, outputs={"y": "FP64[-1]"}),
              features=[View("legs", {"origin": "STRING"}, {"delay": ("FP64", 2.5)})],
              fallback=["then2", ps.constant(y=7.0)])
def broken(inputs):
    raise RuntimeError("it never works")

@app.callable("then2", signature=Signature.of(inputs={"delay": "FP64[-1]"}, outputs={"y": "FP64[-1]"}),
              features=[View("legs", {"origin": "STRING"}, {"delay": ("FP64", 2.5)})])
def then2(inputs):
    return {"y": 100 + inputs["delay"]}
"""
)
CONGESTION = view_of(
    "congestion",
    {"origin": "STRING", "gate": "INT64"},
    {"delay": ("FP64", 2.5), "flights": ("INT64", -1), "closed": ("BOOL", True)},
)
LEGS = view_of("legs", {"origin": "STRING"}, {"delay": ("FP64", 2.5)})
WEATHER = view_of("weather", {"airport": "STRING"}, {"distance": ("FP64", 1000.0), "unused": ("INT64", 5)})
KNOWN = {
    ("JFK", 1): [(0, {"delay": 1.5, "flights": 3, "closed": False}), (1000, {"delay": 0.1, "flights": 4})],
    ("JFK", 2): [(2000, {"delay": float("nan"), "flights": 2**40, "closed": True})],
    ("Zürich", -7): [(0, {"flights": 9, "closed": False})],
}
AS_OF_MS = 1500


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, pushed: CommandLine) -> Iterator[RunningServer]:
    commands = CommandLine(tmp_path_factory.mktemp("features"))
    copy_home(pushed, commands.folder)
    home = commands.folder / ".penstock"
    with running(commands, APP, "--grpc-port", "0") as started:
        # The file comes when the server runs already.
        put_rows(home, CONGESTION, KNOWN, Progress(0, AS_OF_MS, 20, 0))
        legs = {("JFK",): [(0, {"delay": 30.0}), (5000, {"delay": 60.0})], ("EWR",): [(0, {"delay": -4.0})]}
        put_rows(home, LEGS, legs, Progress(0, AS_OF_MS, 20, 0))
        put_rows(home, WEATHER, {("JFK",): [(0, {"distance": 250.0})]}, Progress(0, AS_OF_MS, 20, 0))
        yield started


@pytest.fixture
def client(server: RunningServer) -> Iterator[httpx.Client]:
    with server.client() as open_client:
        yield open_client


def text(*values: str) -> Any:
    return np.array(values, dtype=object)


def ask_seen(client: httpx.Client, origins: list[str], gates: list[int], **further: Any) -> httpx.Response:
    factor = np.full(len(origins), float(further.pop("factor", 1.0)))
    inputs = {"origin": text(*origins), "gate": np.array(gates, np.int64), "factor": factor}
    return client.post("/v2/models/seen/infer", json=v2_json(inputs, **further))


def wait_until(holds: Callable[[], bool], seconds: float = 30) -> None:
    started_s = time.monotonic()
    while not holds():
        assert time.monotonic() - started_s < seconds, "it never came to hold"
        time.sleep(0.05)


def measured(client: httpx.Client, name: str, **labels: str) -> float:
    for line in client.get("/metrics").text.splitlines():
        if line.startswith(name + "{") and all(f'{key}="{value}"' in line for key, value in labels.items()):
            return float(line.rpartition(" ")[2])
    return 0.0


def served(folder: Path, model: str) -> pl.DataFrame:
    """All that is recorded of a model so far."""
    topic = f"tests.{model}.served"
    with EmbeddedLog(folder / ".penstock" / "log", SystemClock()) as log:
        if topic not in [info.spec.name for info in log.admin.topics()]:
            return pl.DataFrame()
        values = log.admin.read(TopicPartition(topic, 0), 0, records_max=10_000).records.values
    frames = [pl.read_ipc_stream(io.BytesIO(value)) for value in values]
    return pl.concat(frames) if frames else pl.DataFrame()


def recorded(folder: Path, model: str, prediction: str, rows: int) -> pl.DataFrame:
    found = pl.DataFrame()

    def there() -> bool:
        nonlocal found
        found = served(folder, model)
        if found.height:
            found = found.filter(pl.col("prediction.id") == prediction)
        return found.height >= rows

    wait_until(there)
    assert found.height == rows
    return found.sort("prediction.row")


def test_callers_see_keys_in_place_of_features(client: httpx.Client) -> None:
    late = client.get("/v2/models/late").json()
    assert late["inputs"] == [
        {"name": "carrier", "datatype": "BYTES", "shape": [-1]},
        {"name": "origin", "datatype": "BYTES", "shape": [-1]},
    ]
    seen = client.get("/v2/models/seen").json()
    assert [(each["name"], each["datatype"]) for each in seen["inputs"]] == [
        ("gate", "INT64"),
        ("factor", "FP64"),
        ("origin", "BYTES"),
    ]
    assert [each["name"] for each in client.get("/v2/models/then").json()["inputs"]] == ["origin", "at"]
    described = client.get("/openapi.json").text
    assert "origin" in described
    assert "flights" not in described
    assert [each["name"] for each in seen["outputs"]] == ["seen"]


def test_each_row_gets_the_features_of_its_key_or_defaults(client: httpx.Client) -> None:
    origins, gates = ["JFK", "nowhere", "JFK", "Zürich", "JFK"], [1, 1, 2, -7, 3]
    expected = [
        [np.float32(0.1), 4, 1, 1],  # `closed` is not known at the time, and so its default
        [2.5, -1, 1, 1],
        [np.nan, -1, 1, 2],  # 2**40 flights are no INT32, and so the default; NaN has a place
        [2.5, 9, 0, -7],
        [2.5, -1, 1, 3],
    ]
    given = outputs(ask_seen(client, origins, gates, factor=2.0))["seen"].astype(np.float64)
    assert np.array_equal(given, 2 * np.array(expected, np.float64), equal_nan=True)


def test_a_model_of_the_registry_predicts_from_features(client: httpx.Client, late: SampleModel) -> None:
    carriers, origins = ["AA", "B6", "AA"], ["JFK", "EWR", "LGA"]
    rows = pl.DataFrame(
        {
            "carrier": carriers,
            "origin": origins,
            "delay": np.array([30.0, -4.0, 2.5], np.float32),
            "distance": np.array([250.0, 1000.0, 1000.0], np.float32),
        }
    )
    inputs = {"carrier": text(*carriers), "origin": text(*origins)}
    answers = [
        client.post("/v2/models/late/infer", json=v2_json(inputs)),
        client.post("/v2/models/late/infer", content=(body := v2_binary(inputs))[0], headers=body[1]),
    ]
    for answer in answers:
        given = outputs(answer)
        assert given["label"].tolist() == late.native.predict(rows).tolist()
        assert np.allclose(given["probabilities"], late.native.predict_proba(rows), atol=1e-5)


def test_invocations_and_batches_take_keys(client: httpx.Client, server: RunningServer) -> None:
    records = [{"origin": "JFK", "gate": 1, "factor": 1.0}, {"origin": "no", "gate": 1, "factor": 2.0}]
    expected = [[float(np.float32(0.1)), 4.0, 1.0, 1.0], [5.0, -2.0, 2.0, 2.0]]

    answer = client.post("/models/seen/invocations", json={"dataframe_records": records})
    assert answer.json()["predictions"] == expected

    lines = "".join(json.dumps(each) + "\n" for each in records)
    headers = {"content-type": "application/x-ndjson"}
    batch = client.post("/models/seen/invocations", content=lines, headers=headers)
    assert [json.loads(line)["seen"] for line in batch.text.splitlines()] == expected
    found = recorded(server.folder, "seen", batch.headers["x-prediction-id"], 2)
    assert found["prediction.row"].to_list() == [0, 1]
    assert found["origin"].to_list() == ["JFK", "no"]

    refused = client.post("/models/seen/invocations", json={"dataframe_records": [{"gate": 1, "factor": 1.0}]})
    assert refused.status_code == 400
    assert "origin" in refused.text


def test_grpc_takes_keys_and_gives_the_id(server: RunningServer) -> None:
    import grpc

    from penstock.serving.protocols.grpc.libraries import load_messages

    messages = load_messages()
    tensor = messages.ModelInferRequest.InferInputTensor
    inputs = []
    for name, datatype, contents in (
        ("origin", "BYTES", {"bytes_contents": [b"JFK"]}),
        ("gate", "INT64", {"int64_contents": [1]}),
        ("factor", "FP64", {"fp64_contents": [1.0]}),
    ):
        given = tensor(name=name, datatype=datatype, shape=[1])
        getattr(given.contents, next(iter(contents))).extend(next(iter(contents.values())))
        inputs.append(given)
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        call = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=messages.ModelInferRequest.SerializeToString,
            response_deserializer=messages.ModelInferResponse.FromString,
        )
        named = call(messages.ModelInferRequest(model_name="seen", id="mine", inputs=inputs), timeout=20)
        made = call(messages.ModelInferRequest(model_name="seen", inputs=inputs), timeout=20)
    assert np.frombuffer(named.raw_output_contents[0]).tolist() == [float(np.float32(0.1)), 4, 1, 1]
    assert named.id == "mine"
    assert len(made.id) == 32
    assert recorded(server.folder, "seen", made.id, 1)["origin"].to_list() == ["JFK"]


def test_the_command_line_takes_keys(server: RunningServer) -> None:
    commands = CommandLine(server.folder)
    row = '{"origin": "JFK", "gate": 1, "factor": 1.0}'
    said = commands.succeeds("predict", "seen", "--row", row, "--url", server.url)
    assert "4.0" in said


def test_an_answer_is_known_by_its_id_and_what_it_was_made_of_is_recorded(
    client: httpx.Client, server: RunningServer
) -> None:
    origins, gates = ["JFK", "no", "Zürich", "JFK"], [1, 1, -7, 2]
    answer = ask_seen(client, origins, gates, id="flight 7\r\nx: y/ä", factor=3.0)
    assert answer.json()["id"] == "flight 7\r\nx: y/ä"
    assert answer.headers["x-prediction-id"] == "flight%207%0D%0Ax:%20y/%C3%A4"
    assert "x" not in answer.headers

    found = recorded(server.folder, "seen", "flight 7\r\nx: y/ä", 4)

    version = client.get("/v2/models/seen").json()["versions"][0]
    assert found["prediction.version"].to_list() == [version] * 4
    assert abs(found["prediction.time"][0].timestamp() - time.time()) < 60
    assert found["origin"].to_list() == origins
    assert found["gate"].to_list() == gates
    assert found["congestion.position"].to_list() == [17, -1, 19, 18]
    assert found["congestion.as_of"].dt.epoch("ms").to_list() == [AS_OF_MS] * 4
    assert found["congestion.stale"].to_list() == [False] * 4
    assert found["delay"][0] == 0.1, "as it was read, not as the model takes it"
    assert np.isnan(found["delay"][3])
    assert found["flights"].to_list() == [4, -1, 9, -1]
    assert found["closed"].to_list() == [True, True, False, True]
    assert found["delay.default"].to_list() == [False, True, True, False]
    assert found["flights.default"].to_list() == [False, True, False, True]
    assert found["closed.default"].to_list() == [True, True, False, False]


def test_ids_are_made_where_there_are_none_and_taken_from_headers(client: httpx.Client) -> None:
    made = [ask_seen(client, ["JFK"], [1]) for _ in range(2)]
    assert all(each.json()["id"] == each.headers["x-prediction-id"] for each in made)
    assert made[0].json()["id"] != made[1].json()["id"]
    row = {"dataframe_records": [{"origin": "JFK", "gate": 1, "factor": 1.0}]}
    named = client.post("/models/seen/invocations", json=row, headers={"x-prediction-id": "order-5"})
    assert named.headers["x-prediction-id"] == "order-5"
    plain = client.post("/v2/models/late/versions/1/infer", json={"inputs": []})
    assert plain.status_code == 400


def test_binary_answers_have_their_id_too(client: httpx.Client) -> None:
    inputs = {"origin": text("JFK"), "gate": np.array([1], np.int64), "factor": np.ones(1)}
    body, headers = v2_binary(inputs)
    answer = client.post("/v2/models/seen/infer", content=body, headers=headers)
    assert outputs(answer)["seen"].tolist() == [[float(np.float32(0.1)), 4, 1, 1]]
    assert json.loads(answer.content[: int(answer.headers["inference-header-content-length"])])["id"]


def test_a_request_may_say_as_of_when(client: httpx.Client) -> None:
    at = np.array([0, 4999, 5000, 10**15], np.int64)
    inputs = {"origin": text("JFK", "JFK", "JFK", "nobody"), "at": at}
    answer = client.post("/v2/models/then/infer", json=v2_json(inputs))
    assert outputs(answer)["y"].tolist() == [30.0, 30.0, 60.0, 2.5]


def test_a_kept_answer_is_recorded_with_what_it_was_made_of(
    client: httpx.Client, server: RunningServer
) -> None:
    before = measured(client, "penstock_feature_rows_total", view="congestion")
    first, again = (ask_seen(client, ["JFK"], [1], factor=77.0) for _ in range(2))
    assert outputs(first)["seen"].tolist() == outputs(again)["seen"].tolist()
    assert measured(client, "penstock_feature_rows_total", view="congestion") == before + 1
    vectors = [recorded(server.folder, "seen", each.json()["id"], 1) for each in (first, again)]
    kept = ["congestion.position", "congestion.as_of", "delay", "flights", "closed.default"]
    assert vectors[0].select(kept).equals(vectors[1].select(kept))


def test_what_is_read_and_what_is_missing_is_counted(client: httpx.Client) -> None:
    names = [("delay", "missing"), ("flights", "missing"), ("closed", "missing"), ("delay", "stale")]
    names.append(("flights", "misfit"))

    def counts() -> list[float]:
        labels = [{"view": "congestion", "feature": feature, "reason": reason} for feature, reason in names]
        return [measured(client, "penstock_feature_defaults_total", **each) for each in labels]

    rows, before = measured(client, "penstock_feature_rows_total", view="congestion"), counts()
    ask_seen(client, ["JFK", "no", "no", "JFK"], [1, 1, 2, 2], factor=5.5)
    assert measured(client, "penstock_feature_rows_total", view="congestion") == rows + 4
    assert [now - then for now, then in zip(counts(), before, strict=True)] == [2, 2, 3, 0, 1]
    assert measured(client, "penstock_feature_as_of_seconds", view="congestion") == AS_OF_MS / 1000


def test_other_rungs_answer_from_the_same_keys(client: httpx.Client, server: RunningServer) -> None:
    answer = client.post("/v2/models/broken/infer", json=v2_json({"origin": text("JFK")}, id="from-backup"))
    assert outputs(answer)["y"].tolist() == [130.0]
    assert answer.json()["model_name"] == "then2"
    assert answer.json()["id"] == "from-backup"
    later = client.post("/v2/models/then2/infer", json=v2_json({"origin": text("JFK")}, id="own"))
    assert outputs(later)["y"].tolist() == [130.0]
    recorded(server.folder, "then2", "own", 1)
    assert not served(server.folder, "broken").height, "it was made of no features of that model"


def test_models_without_features_have_no_ids(commands: CommandLine) -> None:
    app = """
import penstock as ps
app = ps.App("tests", objective=ps.Objective(latency_ms=60_000))
@app.callable("double", signature=ps.Signature.of(inputs={"x": "FP64[-1]"}, outputs={"y": "FP64[-1]"}))
def double(inputs):
    return {"y": 2 * inputs["x"]}
"""
    with running(commands, app) as started, started.client() as client:
        answer = client.post("/v2/models/double/infer", json=v2_json({"x": np.ones(1)}))
        assert answer.status_code == 200
        assert "id" not in answer.json()
        assert "x-prediction-id" not in answer.headers
        assert "penstock_feature" not in client.get("/metrics").text
    assert not (commands.folder / ".penstock" / "log").exists()


def test_the_command_line_shows_what_is_known_of_a_key_and_how_far_views_have_come(
    server: RunningServer,
) -> None:
    commands = CommandLine(server.folder)
    shown = ("features", "show", "congestion", "--json", "--", "JFK", "1", "nobody", "-5")
    told = json.loads(commands.succeeds_inside(*shown))
    assert told[0] == {
        "view": "congestion",
        "key": {"origin": "JFK", "gate": 1},
        "as_of": "1970-01-01T00:00:01.500+00:00",
        "partition": 0,
        "offset": 17,
        "stale": False,
        "features": {
            "delay": {"value": 0.1, "default": False},
            "flights": {"value": 4, "default": False},
            "closed": {"value": True, "default": True},
        },
    }
    assert told[1]["key"] == {"origin": "nobody", "gate": -5}
    assert told[1]["offset"] is None
    legs = commands.succeeds_inside("features", "show", "legs", "JFK", "nobody").splitlines()
    assert [line.split()[:2] for line in legs] == [["origin", "delay"], ["JFK", "30.0"], ["nobody", "2.5*"]]
    said = commands.fails_inside("features", "show", "congestion", "JFK")
    assert "the key of 'congestion' is origin, gate, and 1 parts are given" in said
    assert "gate is 'x', not a number" in commands.fails_inside("features", "show", "congestion", "JFK", "x")
    assert "there are congestion, legs, weather" in commands.fails_inside("features", "show", "other", "JFK")
    standing = json.loads(commands.succeeds_inside("features", "status", "--json"))
    assert [(each["view"], each["keys"]) for each in standing] == [
        ("congestion", 3),
        ("legs", 2),
        ("weather", 1),
    ]
    assert standing[0]["partitions"][0]["next_offset"] == 20
    assert "congestion" in commands.succeeds_inside("features", "status")
    empty = ("--set", "home=elsewhere")
    assert "no feature view has been written" in commands.fails_inside("features", "status", *empty)
