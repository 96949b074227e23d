import numpy as np
import pytest
from onnx import TensorProto, checker, helper

from penstock.core.errors import InvalidInput, ModelFailed
from penstock.core.signature import Signature
from penstock.models.onnx_io import OnnxBinding, open_session, short_reason
from penstock.models.onnx_signature import onnx_signature


def graph(nodes, inputs, outputs):
    values = (
        [helper.make_tensor_value_info(*given) for given in inputs],
        [helper.make_tensor_value_info(*given) for given in outputs],
    )
    model = helper.make_model(
        helper.make_graph(nodes, "g", *values),
        opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)],
        ir_version=9,
    )
    checker.check_model(model)
    return model.SerializeToString()


FLOAT, DOUBLE, INT64, STRING = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64, TensorProto.STRING
DOUBLED = graph(
    [helper.make_node("Add", ["x", "x"], ["y"])], [("x", FLOAT, ["n", 1])], [("y", FLOAT, ["n", 1])]
)


class Recorder:
    """A session that gives back what it is fed."""

    def __init__(self, session):
        self.get_inputs, self.get_outputs = session.get_inputs, session.get_outputs

    def run(self, names, feed):
        self.fed = feed
        return [feed["x"]]


def test_tensors_that_fit_are_fed_as_they_are():
    signature = Signature.of(inputs={"x": "FP32[-1, 1]"}, outputs={"y": "FP32[-1, 1]"})
    session = Recorder(open_session(DOUBLED, where="g"))
    tensors = {"x": np.ones((2, 1), dtype=np.float32)}
    outputs = OnnxBinding(session, signature).run(tensors)
    assert session.fed is tensors
    assert outputs["y"] is tensors["x"]


def test_columns_and_types_are_fitted_to_the_graph():
    signature = Signature.of(inputs={"x": "INT64[-1]"}, outputs={"y": "FP64[-1]"})
    outputs = OnnxBinding(open_session(DOUBLED, where="g"), signature).run({"x": np.array([1, 2])})
    assert outputs["y"].dtype == np.float64
    np.testing.assert_array_equal(outputs["y"], [2.0, 4.0])


def test_a_number_too_large_for_the_graph_becomes_infinite_without_a_warning():
    signature = Signature.of(inputs={"x": "FP64[-1]"}, outputs={"y": "FP32[-1]"})
    outputs = OnnxBinding(open_session(DOUBLED, where="g"), signature).run({"x": np.array([1e300])})
    assert np.isinf(outputs["y"]).all()


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ({"z": "FP32[-1]"}, {"y": "FP32[-1]"}),
        ({"x": "STRING[-1]"}, {"y": "FP32[-1]"}),
        ({"x": "FP32[-1]"}, {"z": "FP32[-1]"}),
    ],
)
def test_a_signature_that_is_not_the_graphs_is_refused_at_once(inputs, outputs):
    with pytest.raises(InvalidInput):
        OnnxBinding(open_session(DOUBLED, where="g"), Signature.of(inputs=inputs, outputs=outputs))


def test_a_graph_that_breaks_while_running():
    node = helper.make_node("Reshape", ["x", "s"], ["y"])
    content = graph([node], [("x", FLOAT, ["n"]), ("s", INT64, ["m"])], [("y", FLOAT, ["k"])])
    signature = Signature.of(inputs={"x": "FP32[-1]", "s": "INT64[-1]"}, outputs={"y": "FP32[-1]"})
    binding = OnnxBinding(open_session(content, where="g"), signature)
    with pytest.raises(ModelFailed, match="the ONNX graph failed"):
        binding.run({"x": np.zeros(3, dtype=np.float32), "s": np.array([7])})


def infer(content, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    return onnx_signature(open_session(path, where=str(path)), where=str(path))


def test_the_signature_of_a_graph(tmp_path):
    nodes = [helper.make_node("Add", ["x", "x"], ["y"]), helper.make_node("Identity", ["s"], ["t"])]
    content = graph(
        nodes,
        [("x", DOUBLE, ["n", 3]), ("s", STRING, ["n", 1])],
        [("y", DOUBLE, ["n", 3]), ("t", STRING, ["n", 1])],
    )
    signature = infer(content, tmp_path)
    assert [spec.describe() for spec in signature.inputs] == ["FP64[-1, 3]", "STRING[-1, 1]"]
    assert [spec.describe() for spec in signature.outputs] == ["FP64[-1, 3]", "STRING[-1, 1]"]


def test_a_fixed_number_of_rows_is_kept(tmp_path):
    node = helper.make_node("Add", ["x", "x"], ["y"])
    signature = infer(graph([node], [("x", FLOAT, [4, 3])], [("y", FLOAT, [4, 3])]), tmp_path)
    assert signature.rows_fixed == 4


def test_nan_has_a_place_where_the_graph_answers_it_with_numbers(tmp_path):
    node = helper.make_node("Imputer", ["x"], ["y"], domain="ai.onnx.ml", imputed_value_floats=[5.0, 6.0])
    content = graph([node], [("x", FLOAT, ["n", 2])], [("y", FLOAT, ["n", 2])])
    assert infer(content, tmp_path).inputs[0].nan is False  # replaces zeros
    node.attribute.append(helper.make_attribute("replaced_value_float", float("nan")))
    content = graph([node], [("x", FLOAT, ["n", 2])], [("y", FLOAT, ["n", 2])])
    assert infer(content, tmp_path).inputs[0].nan is True


def test_maps_are_refused_with_what_to_do(tmp_path):
    node = helper.make_node("ZipMap", ["x"], ["y"], domain="ai.onnx.ml", classlabels_int64s=[0, 1])
    entry = helper.make_map_type_proto(INT64, helper.make_tensor_type_proto(FLOAT, []))
    output = helper.make_value_info("y", helper.make_sequence_type_proto(entry))
    made = helper.make_graph([node], "g", [helper.make_tensor_value_info("x", FLOAT, ["n", 2])], [output])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 1)]
    model = helper.make_model(made, opset_imports=opsets, ir_version=9)
    with pytest.raises(InvalidInput, match="'y' is a seq") as caught:
        infer(model.SerializeToString(), tmp_path)
    assert "zipmap" in caught.value.hint


@pytest.mark.parametrize("content", [b"", b"\x08\x09", DOUBLED[: len(DOUBLED) // 2], b"not a model at all"])
def test_a_damaged_graph_is_refused(content, tmp_path):
    with pytest.raises(InvalidInput, match=r"model\.onnx is not an ONNX model that can run"):
        infer(content, tmp_path)


def test_reasons_are_one_short_line():
    assert short_reason(ValueError("first\nsecond")) == "first"
    assert short_reason(ValueError()) == "ValueError"
    assert len(short_reason(ValueError("x" * 1000))) == 300
