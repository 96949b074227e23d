"""Every call of tritonclient.http against a running server."""

import http.client
import json
from dataclasses import replace

import numpy as np
import tritonclient.http as triton
from checks import main, raised
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

CALLERS = 8


def connect(facts, **options):
    return triton.InferenceServerClient(f"{facts.host}:{facts.port}", **options)


def given(case, binary=True):
    inputs = []
    for name, array in case.inputs.items():
        tensor = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        inputs.append(tensor.set_data_from_numpy(array, binary_data=binary))
    return inputs


def number(x):
    array = np.array([x], dtype=np.float32)
    return [triton.InferInput("x", [1], "FP32").set_data_from_numpy(array)]


def agree(case, result):
    for name in case.outputs:
        case.agrees(name, result.as_numpy(name))


def failure(status, call, *arguments, **named):
    """The message of a call that has to fail with this status."""
    error = raised(InferenceServerException, call, *arguments, **named)
    assert error.status() == status, (error.status(), error.message())
    assert "Traceback" not in error.message()
    return error.message()


def check_health(facts):
    with connect(facts) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("linear")
        assert client.is_model_ready("linear", "2")
        assert not client.is_model_ready("linear", "77")
        assert not client.is_model_ready("nothing")


def check_metadata(facts):
    with connect(facts) as client:
        server = client.get_server_metadata()
        assert server["name"] == "penstock"
        assert "binary_tensor_data" in server["extensions"]
        model = client.get_model_metadata("late")
        assert [each["name"] for each in model["inputs"]] == list(facts.case("late").inputs)
        assert client.get_model_metadata("linear", "2")["name"] == "linear"
        assert "nothing" in failure("404", client.get_model_metadata, "nothing")
        assert "77" in failure("404", client.get_model_metadata, "linear", "77")


def check_config(facts):
    with connect(facts) as client:
        config = client.get_model_config("late")
        assert config["name"] == "late"
        assert [(each["name"], each["data_type"]) for each in config["input"]] == [
            ("carrier", "TYPE_STRING"),
            ("origin", "TYPE_STRING"),
            ("delay", "TYPE_FP32"),
            ("distance", "TYPE_FP32"),
        ]
        assert {each["name"] for each in config["output"]} == set(facts.case("late").outputs)
        assert client.get_model_config("linear", "2")["name"] == "linear"
        failure("404", client.get_model_config, "nothing")


def check_statistics(facts):
    def counted(statistics):
        (one,) = [each for each in statistics["model_stats"] if each["name"] == "linear"]
        assert one["version"] == "2"
        return one

    case = facts.case("linear")
    with connect(facts) as client:
        client.infer("linear", given(case))  # what was never asked has no statistics
        before = counted(client.get_inference_statistics())
        client.infer("linear", given(case))
        gap = {name: np.full_like(array, np.nan) for name, array in case.inputs.items()}
        failure("400", client.infer, "linear", given(replace(case, inputs=gap)))
        after = counted(client.get_inference_statistics("linear", "2"))
        for whole in (client.get_inference_statistics("linear"), client.get_inference_statistics()):
            assert counted(whole)["inference_count"] == after["inference_count"]
        rows = len(next(iter(case.inputs.values())))
        assert after["inference_count"] - before["inference_count"] == rows
        assert after["execution_count"] - before["execution_count"] == 1
        assert after["last_inference"] >= before["last_inference"] > 1.6e12, "milliseconds since 1970"
        old, new = before["inference_stats"], after["inference_stats"]
        assert new["success"]["count"] - old["success"]["count"] == 1
        assert new["success"]["ns"] > old["success"]["ns"]
        assert new["fail"]["count"] - old["fail"]["count"] == 1
        assert set(new) >= {"queue", "compute_input", "compute_infer", "compute_output"}
        failure("404", client.get_inference_statistics, "nothing")


def check_binary(facts):
    with connect(facts) as client:
        for name in ("linear", "late", "types", "half", "wide"):
            case = facts.case(name)
            agree(case, client.infer(case.model, given(case)))


def check_json(facts):
    with connect(facts) as client:
        for name in ("linear", "late", "types_json", "half"):
            case = facts.case(name)
            outputs = [triton.InferRequestedOutput(each, binary_data=False) for each in case.outputs]
            result = client.infer(case.model, given(case, binary=False), outputs=outputs)
            assert all("data" in each for each in result.get_response()["outputs"])
            agree(case, result)


def check_mixed(facts):
    """Some inputs and outputs in binary and some in JSON, in one request."""
    case = facts.case("late")
    inputs = [
        raw if index % 2 else plain
        for index, (raw, plain) in enumerate(zip(given(case), given(case, binary=False), strict=True))
    ]
    outputs = [
        triton.InferRequestedOutput(name, binary_data=bool(index)) for index, name in enumerate(case.outputs)
    ]
    with connect(facts) as client:
        agree(case, client.infer("late", inputs, outputs=outputs))


def check_bfloat16(facts):
    """Raw on the wire both ways."""
    case = facts.case("bf16")
    import ml_dtypes

    half = case.inputs["x"].astype(ml_dtypes.bfloat16)
    inputs = [triton.InferInput("x", list(half.shape), "BF16").set_data_from_numpy(half)]
    with connect(facts) as client:
        result = client.infer(case.model, inputs)
        assert result.get_output("y")["datatype"] == "BF16"
        case.agrees("y", result.as_numpy("y").astype(np.float32))


def check_zero_size(facts):
    case = facts.case("empty")
    with connect(facts) as client:
        agree(case, client.infer(case.model, given(case)))
        outputs = [triton.InferRequestedOutput(name, binary_data=False) for name in case.outputs]
        agree(case, client.infer(case.model, given(case, binary=False), outputs=outputs))


def check_versions(facts):
    case = facts.case("linear")
    with connect(facts) as client:
        result = client.infer("linear", given(case), model_version="2")
        assert result.get_response()["model_version"] == "2"
        agree(case, result)
        assert client.infer("linear", given(case)).get_response()["model_version"] == "2"
        assert "77" in failure("404", client.infer, "linear", given(case), model_version="77")


def check_id_and_outputs(facts):
    case = facts.case("late")
    with connect(facts) as client:
        result = client.infer(
            "late", given(case), outputs=[triton.InferRequestedOutput("label")], request_id="Zürich-7"
        )
        assert result.get_response()["id"] == "Zürich-7"
        case.agrees("label", result.as_numpy("label"))
        assert result.as_numpy("probabilities") is None
        said = failure(
            "400", client.infer, "late", given(case), outputs=[triton.InferRequestedOutput("nothing")]
        )
        assert "nothing" in said


def check_compression(facts):
    with connect(facts) as client:
        for name in ("late", "wide"):
            case = facts.case(name)
            for algorithm in ("gzip", "deflate"):
                for binary in (True, False):
                    result = client.infer(
                        case.model,
                        given(case, binary),
                        request_compression_algorithm=algorithm,
                        response_compression_algorithm=algorithm,
                    )
                    agree(case, result)


def check_answers_are_compressed(facts):
    """What the client unpacks did come packed; seen below the client, which does not tell."""
    case = facts.case("wide")
    body, head_bytes = triton.InferenceServerClient.generate_request_body(given(case))
    for algorithm in ("gzip", "deflate"):
        connection = http.client.HTTPConnection(facts.host, facts.port, timeout=30)
        headers = {"Inference-Header-Content-Length": str(head_bytes), "Accept-Encoding": algorithm}
        connection.request("POST", f"/v2/models/{case.model}/infer", body, headers)
        answer = connection.getresponse()
        packed = answer.read()
        assert answer.headers["Content-Encoding"] == algorithm
        result = triton.InferenceServerClient.parse_response_body(
            packed,
            header_length=int(answer.headers["Inference-Header-Content-Length"]),
            content_encoding=algorithm,
        )
        agree(case, result)
        connection.close()


def check_parameters(facts):
    case = facts.case("linear")
    with connect(facts) as client:
        named = {"priority": 1, "timeout": 20_000_000, "parameters": {"tenant": "a", "retry": 2, "rate": 0.5}}
        agree(case, client.infer("linear", given(case), **named))
        agree(case, client.infer("linear", given(case), headers={"x-request-timeout-ms": "20000"}))
        agree(case, client.infer("linear", given(case), query_params={"tenant": "a b", "try": [1, 2]}))


def check_timeout(facts):
    with connect(facts) as client:
        failure("504", client.infer, "moody", number(0.4), timeout=20_000)
        client.infer("moody", number(0))  # behind what still runs; who cannot wait for that is refused
        failure("504", client.infer, "moody", number(0.4), headers={"x-request-timeout-ms": "20"})
        client.infer("moody", number(0))


def check_model_errors(facts):
    with connect(facts) as client:
        assert "above 100" in failure("400", client.infer, "moody", number(101))
        failure("500", client.infer, "moody", number(-1))
        assert client.infer("moody", number(0)).as_numpy("y").tolist() == [0]


def check_mistakes(facts):
    case = facts.case("late")
    with connect(facts) as client:
        assert "nothing" in failure("404", client.infer, "nothing", number(1))
        assert "distance" in failure("400", client.infer, "late", given(case)[:-1])
        wrong = triton.InferInput("x", [1], "INT64").set_data_from_numpy(np.array([1]))
        said = failure("400", client.infer, "moody", [wrong])
        assert "FP32" in said
        assert "INT64" in said
        square = np.zeros((2, 2), dtype=np.float32)
        wrong = triton.InferInput("x", [2, 2], "FP32").set_data_from_numpy(square)
        assert "shape" in failure("400", client.infer, "moody", [wrong])
        unknown = given(case)
        name = np.array(["??"] * len(case.inputs["carrier"]), dtype=object)
        unknown[0].set_data_from_numpy(name)
        assert "'??'" in failure("400", client.infer, "late", unknown)


def check_shared_memory_is_refused(facts):
    """Not served: each call says so, and none is answered as if it had been."""
    with connect(facts) as client:
        for call, arguments in (
            (client.get_system_shared_memory_status, ()),
            (client.register_system_shared_memory, ("region", "/region", 64)),
            (client.unregister_system_shared_memory, ("region",)),
            (client.get_cuda_shared_memory_status, ()),
            (client.unregister_cuda_shared_memory, ()),
        ):
            failure("404", call, *arguments)
        inside = triton.InferInput("x", [1], "FP32").set_shared_memory("region", 4)
        assert "shared" in failure("400", client.infer, "moody", [inside])
        output = triton.InferRequestedOutput("y")
        output.set_shared_memory("region", 4)
        assert "shared" in failure("400", client.infer, "moody", number(0), outputs=[output])


def check_classification_is_refused(facts):
    case = facts.case("linear")
    output = triton.InferRequestedOutput("probabilities", class_count=2)
    with connect(facts) as client:
        assert "classification" in failure("400", client.infer, "linear", given(case), outputs=[output])


def check_settings_are_refused(facts):
    with connect(facts) as client:
        failure("404", client.get_log_settings)
        failure("404", client.update_log_settings, {"log_info": True})
        failure("404", client.get_trace_settings)
        failure("404", client.update_trace_settings, settings={"trace_rate": "1"})


def check_sequences_are_refused(facts):
    """No model here keeps the state of a sequence; an answer as if one did would be wrong."""
    case = facts.case("linear")
    with connect(facts) as client:
        said = failure("400", client.infer, "linear", given(case), sequence_id=7, sequence_start=True)
        assert "sequence_id" in said


def check_repository(facts):
    def states(client):
        index = client.get_model_repository_index()
        return {each["version"]: each["state"] for each in index if each["name"] == "spare"}

    case = facts.case("spare")
    with connect(facts) as client:
        assert states(client)["1"] == "READY"
        client.unload_model("spare")
        assert not client.is_model_ready("spare")
        assert states(client)["1"] == "UNAVAILABLE"
        failure("404", client.infer, "spare", given(case))
        client.load_model("spare")
        assert client.is_model_ready("spare")
        assert states(client)["1"] == "READY"
        agree(case, client.infer("spare", given(case)))
        assert "nothing" in failure("404", client.load_model, "nothing")
        assert "nothing" in failure("404", client.unload_model, "nothing")


def check_bytes_of_ones_own(facts):
    """generate_request_body and parse_response_body, with another library to carry the bytes."""
    case = facts.case("late")
    body, head_bytes = triton.InferenceServerClient.generate_request_body(given(case))
    connection = http.client.HTTPConnection(facts.host, facts.port, timeout=30)
    connection.request(
        "POST", "/v2/models/late/infer", body, {"Inference-Header-Content-Length": str(head_bytes)}
    )
    answer = connection.getresponse()
    length = int(answer.headers["Inference-Header-Content-Length"])
    content = answer.read()
    assert json.loads(content[:length])["model_name"] == "late"
    agree(case, triton.InferenceServerClient.parse_response_body(content, header_length=length))
    connection.close()


def check_many_at_once(facts):
    """Each of many requests in flight on several connections gets its own rows back."""
    with connect(facts, concurrency=CALLERS) as client:
        waiting = []
        for index in range(6 * CALLERS):
            case = facts.case(("linear", "late", "types")[index % 3])
            waiting.append(
                (case, str(index), client.async_infer(case.model, given(case), request_id=str(index)))
            )
        for case, name, pending in waiting:
            result = pending.get_result(timeout=30)
            assert result.get_response()["id"] == name
            agree(case, result)
        pending = client.async_infer("nothing", number(1))
        assert "nothing" in failure("404", pending.get_result)


if __name__ == "__main__":
    main(__name__)
