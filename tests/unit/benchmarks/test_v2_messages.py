"""Messages encoded by hand are what protobuf's own library reads, and the other way round."""

import numpy as np
import pytest
from benchmarks.protocols.v2_messages import infer_request, output_floats

from penstock.serving.protocols.grpc.libraries import load_messages

ROWS = np.array([[1.5, -2.0, 3.25], [0.0, 1e-7, 9e9]], np.float32)


@pytest.fixture(scope="module")
def messages():
    return load_messages()


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "typed"])
def test_requests(messages, raw):
    request = messages.ModelInferRequest.FromString(infer_request("late", "x", ROWS, raw=raw, version="3"))

    (tensor,) = request.inputs
    assert (request.model_name, request.model_version) == ("late", "3")
    assert (tensor.name, tensor.datatype, list(tensor.shape)) == ("x", "FP32", [2, 3])
    if raw:
        assert list(request.raw_input_contents) == [ROWS.tobytes()]
    else:
        assert list(tensor.contents.fp32_contents) == ROWS.ravel().tolist()


def test_raw_outputs_are_found_by_name(messages):
    response = messages.ModelInferResponse()
    response.outputs.add(name="label", datatype="INT64", shape=[1])
    response.outputs.add(name="probabilities", datatype="FP32", shape=[1, 3])
    response.raw_output_contents.extend([np.array([7], "<i8").tobytes(), ROWS[0].tobytes()])

    assert output_floats(response.SerializeToString(), "probabilities") == ROWS[0].tolist()


def test_typed_outputs_are_found_by_name(messages):
    response = messages.ModelInferResponse()
    output = response.outputs.add(name="probabilities", datatype="FP32", shape=[1, 3])
    output.contents.fp32_contents.extend(ROWS[0].tolist())

    assert output_floats(response.SerializeToString(), "probabilities") == ROWS[0].tolist()


def test_an_output_that_is_not_there(messages):
    with pytest.raises(KeyError):
        output_floats(messages.ModelInferResponse(model_name="late").SerializeToString(), "probabilities")
