"""Every call of tritonclient.grpc against a running server."""

import queue
import threading

import numpy as np
import tritonclient.grpc as triton
from checks import main, raised
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

PATIENCE_S = 30


def connect(facts):
    return triton.InferenceServerClient(f"{facts.host}:{facts.grpc_port}")


def given(case):
    inputs = []
    for name, array in case.inputs.items():
        tensor = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        inputs.append(tensor.set_data_from_numpy(array))
    return inputs


def number(x):
    return [triton.InferInput("x", [1], "FP32").set_data_from_numpy(np.array([x], dtype=np.float32))]


def agree(case, result):
    for name in case.outputs:
        case.agrees(name, result.as_numpy(name))


def failure(status, call, *arguments, **named):
    error = raised(InferenceServerException, call, *arguments, **named)
    assert error.status() == f"StatusCode.{status}", (error.status(), error.message())
    assert "Traceback" not in error.message()
    return error.message()


def check_health(facts):
    with connect(facts) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("linear")
        assert client.is_model_ready("linear", "2")
        assert not client.is_model_ready("nothing")


def check_metadata(facts):
    with connect(facts) as client:
        server = client.get_server_metadata()
        assert server.name == "penstock"
        assert client.get_server_metadata(as_json=True)["name"] == "penstock"
        model = client.get_model_metadata("late")
        assert [each.name for each in model.inputs] == list(facts.case("late").inputs)
        assert [each.datatype for each in model.inputs] == ["BYTES", "BYTES", "FP32", "FP32"]
        assert list(model.inputs[0].shape) == [-1]
        assert "nothing" in failure("NOT_FOUND", client.get_model_metadata, "nothing")
        assert "77" in failure("NOT_FOUND", client.get_model_metadata, "linear", "77")


def check_config(facts):
    with connect(facts) as client:
        config = client.get_model_config("late").config
        assert config.name == "late"
        assert [each.name for each in config.input] == list(facts.case("late").inputs)
        as_json = client.get_model_config("late", as_json=True)["config"]
        assert as_json["input"][0]["data_type"] == "TYPE_STRING"
        failure("NOT_FOUND", client.get_model_config, "nothing")


def check_statistics(facts):
    case = facts.case("linear")
    with connect(facts) as client:
        client.infer("linear", given(case))
        (before,) = client.get_inference_statistics("linear").model_stats
        client.infer("linear", given(case))
        (after,) = client.get_inference_statistics("linear", "2").model_stats
        assert after.inference_count - before.inference_count == len(next(iter(case.inputs.values())))
        assert after.execution_count - before.execution_count == 1
        assert after.inference_stats.success.count - before.inference_stats.success.count == 1
        assert after.last_inference > 1.6e12, "milliseconds since 1970"
        assert len(client.get_inference_statistics().model_stats) > 1
        failure("NOT_FOUND", client.get_inference_statistics, "nothing")


def check_inference(facts):
    with connect(facts) as client:
        for name in ("linear", "late", "types", "half", "wide", "empty"):
            case = facts.case(name)
            agree(case, client.infer(case.model, given(case)))
        result = client.infer("linear", given(facts.case("linear")), model_version="2", request_id="Zürich-7")
        response = result.get_response()
        assert (response.id, response.model_name, response.model_version) == ("Zürich-7", "linear", "2")


def check_bfloat16(facts):
    import ml_dtypes

    case = facts.case("bf16")
    half = case.inputs["x"].astype(ml_dtypes.bfloat16)
    with connect(facts) as client:
        result = client.infer(
            case.model, [triton.InferInput("x", list(half.shape), "BF16").set_data_from_numpy(half)]
        )
        case.agrees("y", result.as_numpy("y").astype(np.float32))


def check_requested_outputs(facts):
    case = facts.case("late")
    with connect(facts) as client:
        result = client.infer("late", given(case), outputs=[triton.InferRequestedOutput("label")])
        case.agrees("label", result.as_numpy("label"))
        assert result.as_numpy("probabilities") is None
        unknown = [triton.InferRequestedOutput("nothing")]
        assert "nothing" in failure("INVALID_ARGUMENT", client.infer, "late", given(case), outputs=unknown)


def check_compression(facts):
    with connect(facts) as client:
        for name in ("late", "wide"):
            case = facts.case(name)
            for algorithm in ("gzip", "deflate"):
                agree(case, client.infer(case.model, given(case), compression_algorithm=algorithm))


def check_large_messages(facts):
    """Past the four megabytes that gRPC's libraries set as their limit unless told otherwise."""
    array = np.arange(1_500_000, dtype=np.float32).reshape(3, 500_000)
    assert array.nbytes > 4 * 1024 * 1024
    inputs = [triton.InferInput("x", list(array.shape), "FP32").set_data_from_numpy(array)]
    with connect(facts) as client:
        assert np.array_equal(client.infer("reverse", inputs).as_numpy("y"), array[:, ::-1])


def check_parameters(facts):
    case = facts.case("linear")
    with connect(facts) as client:
        named = {"priority": 1, "timeout": 20_000_000, "client_timeout": 20.0}
        named["parameters"] = {"tenant": "a", "retry": 2, "rate": 0.5, "dry": False}
        agree(case, client.infer("linear", given(case), headers={"x-tenant": "a"}, **named))


def check_sequences_are_refused(facts):
    """No model here keeps the state of a sequence; an answer as if one did would be wrong."""
    case = facts.case("linear")
    with connect(facts) as client:
        sequence = {"sequence_id": 7, "sequence_start": True}
        assert "sequence" in failure("UNIMPLEMENTED", client.infer, "linear", given(case), **sequence)


def check_timeouts(facts):
    with connect(facts) as client:
        failure("DEADLINE_EXCEEDED", client.infer, "moody", number(0.4), timeout=20_000)
        client.infer("moody", number(0))  # behind what still runs; who cannot wait for that is refused
        failure("DEADLINE_EXCEEDED", client.infer, "moody", number(0.4), client_timeout=0.02)
        assert client.infer("moody", number(0)).as_numpy("y").tolist() == [0]


def check_errors(facts):
    case = facts.case("late")
    with connect(facts) as client:
        assert "nothing" in failure("NOT_FOUND", client.infer, "nothing", number(1))
        assert "77" in failure("NOT_FOUND", client.infer, "linear", number(1), model_version="77")
        assert "distance" in failure("INVALID_ARGUMENT", client.infer, "late", given(case)[:-1])
        wrong = [triton.InferInput("x", [1], "INT64").set_data_from_numpy(np.array([1]))]
        assert "FP32" in failure("INVALID_ARGUMENT", client.infer, "moody", wrong)
        assert "above 100" in failure("INVALID_ARGUMENT", client.infer, "moody", number(101))
        failure("INTERNAL", client.infer, "moody", number(-1))
        assert client.infer("moody", number(0)).as_numpy("y").tolist() == [0]


def check_shared_memory_is_refused(facts):
    case = facts.case("late")
    with connect(facts) as client:
        for call, arguments in (
            (client.get_system_shared_memory_status, ()),
            (client.register_system_shared_memory, ("region", "/region", 64)),
            (client.unregister_system_shared_memory, ()),
            (client.get_cuda_shared_memory_status, ()),
        ):
            failure("UNIMPLEMENTED", call, *arguments)
        inside = triton.InferInput("x", [1], "FP32").set_shared_memory("region", 4)
        assert "shared" in failure("UNIMPLEMENTED", client.infer, "moody", [inside])
        inputs = given(case)
        inputs[0].set_shared_memory("region", 4)
        assert "shared" in failure("UNIMPLEMENTED", client.infer, "late", inputs)
        output = triton.InferRequestedOutput("y")
        output.set_shared_memory("region", 4)
        assert "shared" in failure("UNIMPLEMENTED", client.infer, "moody", number(0), outputs=[output])


def check_classification_is_refused(facts):
    case = facts.case("linear")
    output = triton.InferRequestedOutput("probabilities", class_count=2)
    with connect(facts) as client:
        said = failure("UNIMPLEMENTED", client.infer, "linear", given(case), outputs=[output])
        assert "classification" in said


def check_settings_are_refused(facts):
    with connect(facts) as client:
        failure("UNIMPLEMENTED", client.get_log_settings)
        failure("UNIMPLEMENTED", client.update_log_settings, {"log_info": True})
        failure("UNIMPLEMENTED", client.get_trace_settings)


def check_repository(facts):
    def state(client):
        index = client.get_model_repository_index()
        return {each.version: each.state for each in index.models if each.name == "spare"}["1"]

    case = facts.case("spare")
    with connect(facts) as client:
        assert state(client) == "READY"
        client.unload_model("spare")
        assert state(client) == "UNAVAILABLE"
        failure("NOT_FOUND", client.infer, "spare", given(case))
        client.load_model("spare")
        assert state(client) == "READY"
        agree(case, client.infer("spare", given(case)))
        assert "nothing" in failure("NOT_FOUND", client.load_model, "nothing")


def check_many_at_once(facts):
    answers = queue.Queue()
    with connect(facts) as client:
        for index in range(48):
            case = facts.case(("linear", "late", "types")[index % 3])

            def done(result, error, case=case, index=index):
                answers.put((case, str(index), result, error))

            client.async_infer(case.model, given(case), done, request_id=str(index))
        for _ in range(48):
            case, name, result, error = answers.get(timeout=PATIENCE_S)
            assert error is None, error
            assert result.get_response().id == name
            agree(case, result)


def check_threads(facts):
    """One client, many threads, as its documentation allows."""
    failures = []

    def ask(client, index):
        try:
            for _ in range(10):
                case = facts.case(f"row{index}")
                agree(case, client.infer("linear", given(case)))
        except Exception as error:
            failures.append(error)

    with connect(facts) as client:
        threads = [threading.Thread(target=ask, args=(client, index)) for index in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
    assert not failures, failures


def check_cancel(facts):
    answers = queue.Queue()
    with connect(facts) as client:
        call = client.async_infer("moody", number(0.3), lambda result, error: answers.put((result, error)))
        call.cancel()
        result, error = answers.get(timeout=PATIENCE_S)
        assert result is None
        assert error.status() == "StatusCode.CANCELLED"
        assert client.infer("moody", number(0)).as_numpy("y").tolist() == [0]


def check_stream(facts):
    """Each request of a stream has an answer, under its id; an error is one, and the stream goes on."""
    answers = queue.Queue()
    cases = {str(index): facts.case(("linear", "late", "types")[index % 3]) for index in range(30)}
    with connect(facts) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        for name, case in cases.items():
            client.async_stream_infer(case.model, given(case), request_id=name)
        client.async_stream_infer("nothing", number(1), request_id="mistake")
        client.async_stream_infer("moody", number(0), request_id="last")
        messages = []
        for _ in range(len(cases) + 2):
            result, error = answers.get(timeout=PATIENCE_S)
            if error is not None:
                messages.append(error.message())
                continue
            name = result.get_response().id
            if name == "last":
                assert result.as_numpy("y").tolist() == [0]
            else:
                agree(cases.pop(name), result)
        client.stop_stream()
        assert answers.empty()
    assert not cases
    (message,) = messages
    assert "nothing" in message


def check_stream_compressed_and_final(facts):
    """A caller that asks to be told which answer is the last is told so with the only one."""
    answers = queue.Queue()
    case = facts.case("wide")
    with connect(facts) as client:
        client.start_stream(lambda result, error: answers.put((result, error)), compression_algorithm="gzip")
        client.async_stream_infer(case.model, given(case), enable_empty_final_response=True)
        result, error = answers.get(timeout=PATIENCE_S)
        assert error is None, error
        agree(case, result)
        assert result.get_response().parameters["triton_final_response"].bool_param
        client.stop_stream()


def check_stream_cancel(facts):
    answers = queue.Queue()
    with connect(facts) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        client.async_stream_infer("moody", number(0.3))
        client.stop_stream(cancel_requests=True)
        result, error = answers.get(timeout=PATIENCE_S)
        assert (result, error.status()) == (None, "StatusCode.CANCELLED")
        assert client.infer("moody", number(0)).as_numpy("y").tolist() == [0]


if __name__ == "__main__":
    main(__name__)
