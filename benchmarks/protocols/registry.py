"""The models that are served, and the registry that they are pushed into before anything is measured."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.serving.model import ModelFiles
from penstock.app.loader import open_registry
from penstock.core.settings import Settings
from penstock.models.push import Provenance, prepare
from penstock.models.registry import CHAMPION, Registry

__all__ = ["IMAGE_SHAPE", "VERSIONED", "image_graph", "opened", "prepare_registry", "versioned_graph"]

IMAGE_SHAPE = (3, 224, 224)
IMAGE_SAMPLES = 2
VERSIONED = "versioned"


@contextlib.contextmanager
def opened(home: Path) -> Iterator[Registry]:
    with open_registry(Settings(home=str(home))) as registry:
        yield registry


def prepare_registry(home: Path, files: ModelFiles, *, versions: int) -> None:
    """A fresh registry with `late` (the very ONNX file that the peers are given), `image`, and `versions`
    versions of a model that is `late` with one output more: the number of its version.
    """
    shutil.rmtree(home, ignore_errors=True)
    folder = home / "pushed"
    folder.mkdir(parents=True)
    images = folder / "images.npy"
    np.save(images, np.zeros((IMAGE_SAMPLES, *IMAGE_SHAPE), np.float32))
    image = folder / "image.onnx"
    image.write_bytes(image_graph())
    with opened(home) as registry:
        _push(registry, "late", files.onnx, files.samples)
        _push(registry, "image", image, images)
        for number in range(1, versions + 1):
            file = folder / f"version-{number}.onnx"
            file.write_bytes(versioned_graph(files.onnx.read_bytes(), number))
            _push(registry, VERSIONED, file, files.samples)
        for model in ("late", "image", *([VERSIONED] if versions else [])):
            registry.move_alias(model, CHAMPION, to=1)


def _push(registry: Registry, model: str, file: Path, samples: Path) -> None:
    provenance = Provenance(creator="benchmark")
    registry.push(prepare(model, file, samples=samples, trust_pickle=False, provenance=provenance))


def image_graph() -> bytes:
    """The mean of each channel: a model that costs nothing beside decoding its input."""
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["means"]),
        ],
        "image",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["rows", *IMAGE_SHAPE])],
        [helper.make_tensor_value_info("means", TensorProto.FLOAT, ["rows", IMAGE_SHAPE[0]])],
    )
    return _serialized(graph)


def versioned_graph(onnx: bytes, number: int) -> bytes:
    """The model with a further output `version`, the number for each row. It is computed from the row (times
    nothing), so that no tool can take it for a constant.
    """
    import onnx as library
    from onnx import TensorProto, helper

    model = library.load_from_string(onnx)
    graph = model.graph
    graph.initializer.append(helper.make_tensor("version_zero", TensorProto.INT64, [], [0]))
    graph.initializer.append(helper.make_tensor("version_number", TensorProto.INT64, [], [number]))
    graph.node.extend(
        [
            helper.make_node("ArgMax", ["x"], ["version_place"], axis=1, keepdims=0),
            helper.make_node("Mul", ["version_place", "version_zero"], ["version_none"]),
            helper.make_node("Add", ["version_none", "version_number"], ["version"]),
        ]
    )
    graph.output.append(helper.make_tensor_value_info("version", TensorProto.INT64, ["rows"]))
    serialized: bytes = model.SerializeToString()
    return serialized


def _serialized(graph) -> bytes:  # type: ignore[no-untyped-def]
    from onnx import helper

    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 10
    serialized: bytes = model.SerializeToString()
    return serialized
