"""MLflow's client of a scoring server, and the other ways in which MLflow's users ask one."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import requests
from checks import main, raised
from mlflow.pyfunc.scoring_server.client import ScoringServerClient

LATE = "late"


def connect(facts, model=LATE):
    """The client has no place for a model's name; it puts what it takes for the port before its paths."""
    return ScoringServerClient(facts.host, f"{facts.port}/models/{model}")


def frame(case):
    return pd.DataFrame({name: array.ravel() for name, array in case.inputs.items()})


def agree(case, predictions):
    assert list(predictions.columns) == list(case.outputs)
    case.agrees("label", predictions["label"].to_numpy(dtype=object))
    case.agrees("probabilities", np.array(predictions["probabilities"].tolist(), dtype=np.float32))


def check_ready(facts):
    client = connect(facts)
    client.wait_server_ready(timeout=5)
    client.ping()
    ScoringServerClient(facts.host, facts.port).wait_server_ready(timeout=5)
    assert ScoringServerClient(facts.host, facts.port).get_version()
    raised(Exception, connect(facts, "nothing").ping)


def check_frames(facts):
    case = facts.case("late")
    agree(case, connect(facts).invoke(frame(case)).get_predictions())
    indexed = frame(case).set_index(pd.Index([f"flight {row}" for row in range(len(frame(case)))]))
    agree(case, connect(facts).invoke(indexed).get_predictions())
    agree(
        case, connect(facts).invoke(frame(case)[["distance", "origin", "delay", "carrier"]]).get_predictions()
    )


def check_arrays_and_lists(facts):
    case = facts.case("linear")
    ((_, matrix),) = case.inputs.items()
    for data in (matrix, matrix.tolist()):
        predictions = connect(facts, "linear").invoke(data).get_predictions()
        assert predictions["label"].tolist() == case.outputs["label"].tolist()
        given = np.array(predictions["probabilities"].tolist(), dtype=np.float32)
        case.agrees("probabilities", given)


def check_one_output(facts):
    """Of a model with one output, predictions are a plain list, which makes an array."""
    predictions = connect(facts, "moody").invoke(np.array([0.0, 0.01])).get_predictions("ndarray", np.float32)
    assert np.allclose(predictions, [0, 0.01])


def check_text_of_ones_own(facts):
    """The client sends text as it is: each form of the protocol."""
    case = facts.case("late")
    table = frame(case)
    forms = (
        {"dataframe_records": json.loads(table.to_json(orient="records"))},
        {"dataframe_split": json.loads(table.to_json(orient="split"))},
        {"instances": json.loads(table.to_json(orient="records"))},
        {"inputs": {name: array.ravel().tolist() for name, array in case.inputs.items()}},
    )
    for form in forms:
        agree(case, connect(facts).invoke(json.dumps(form)).get_predictions())


def check_missing_values(facts):
    """The client writes NaN as it is, which is no JSON, and MLflow's own server reads it."""
    predictions = connect(facts, "moody").invoke(pd.DataFrame({"x": [1.5, None]})).get_predictions("ndarray")
    assert predictions.tolist() == [1.5, -1]


def check_params_are_ignored(facts):
    """As MLflow's own server does for a model that takes none."""
    case = facts.case("late")
    agree(case, connect(facts).invoke(frame(case), params={"temperature": 0.5}).get_predictions())


def check_errors(facts):
    def said(client, data):
        text = str(raised(Exception, client.invoke, data))
        assert "Traceback" not in text
        return text

    case = facts.case("late")
    short = said(connect(facts), frame(case).drop(columns="distance"))
    assert "error code 400" in short
    assert "distance" in short
    unknown = frame(case)
    unknown.loc[1, "carrier"] = "??"
    assert "carrier" in said(connect(facts), unknown)
    assert "error code 404" in said(connect(facts, "nothing"), frame(case))
    assert "error code 500" in said(connect(facts, "moody"), np.array([-1.0]))
    assert "error code 400" in said(connect(facts), "{")
    assert "error code 400" in said(connect(facts), '{"rows": []}')


def check_the_way_of_requests(facts):
    """As MLflow's documentation does it, without its client."""
    case = facts.case("late")
    url = f"{facts.url}/models/late/invocations"
    body = {"dataframe_split": frame(case).to_dict(orient="split")}
    answer = requests.post(url, json=body, timeout=30)
    assert answer.headers["content-type"] == "application/json"
    agree(case, pd.DataFrame(answer.json()["predictions"]))
    charset = {"Content-Type": "application/json; charset=utf-8"}
    assert requests.post(url, data=json.dumps(body), headers=charset, timeout=30).status_code == 200
    strange = requests.post(url, data=b"x", headers={"Content-Type": "text/turtle"}, timeout=30)
    assert strange.status_code == 415
    assert strange.json()["error"]


def check_without_a_model(facts):
    """With several models it is said which there are; that is all that can be done."""
    client = ScoringServerClient(facts.host, facts.port)
    text = str(raised(Exception, client.invoke, np.array([0.0])))
    assert "linear" in text
    assert "late" in text


def check_many_at_once(facts):
    case = facts.case("late")

    def ask(_):
        agree(case, connect(facts).invoke(frame(case)).get_predictions())

    with ThreadPoolExecutor(8) as callers:
        list(callers.map(ask, range(32)))


if __name__ == "__main__":
    main(__name__)
