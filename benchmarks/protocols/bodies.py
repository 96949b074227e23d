"""Bodies of each protocol as files for the load generator, and answers read back for checking."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.harness.figure import FigureFailed
from benchmarks.harness.load import Target
from benchmarks.harness.penstock import Asked, Server, ask
from benchmarks.protocols.figure import Bench
from benchmarks.protocols.registry import IMAGE_SHAPE
from benchmarks.serving.dialects import HEAD_LENGTH, V2Binary, V2Json

__all__ = [
    "INFER_IMAGE",
    "INFER_LATE",
    "check_late",
    "image_target",
    "images",
    "invocations",
    "late_target",
    "rows_target",
    "write_target",
]

INFER_LATE = "/v2/models/late/infer"
INFER_IMAGE = "/v2/models/image/infer"
IMAGES = 4
DECIMALS = 4
SEED = 0
TOLERANCE = 1e-5

Body = tuple[bytes, Mapping[str, str]]


def write_target(folder: Path, port: int, path: str, bodies: Iterable[Body]) -> Target:
    """The bodies as files, all with the headers of the first."""
    folder.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []
    headers: Mapping[str, str] = {}
    for number, (body, each) in enumerate(bodies):
        headers = headers or each
        assert dict(headers) == dict(each), "the bodies of one target have the same headers"
        files.append(folder / str(number))
        files[-1].write_bytes(body)
    return Target(port=port, path=path, bodies=files, headers=[f"{k}: {v}" for k, v in headers.items()])


def late_target(bench: Bench, port: int, *, binary: bool, path: str = INFER_LATE) -> Target:
    dialect = V2Binary() if binary else V2Json()
    folder = bench.scratch("bodies") / f"{'binary' if binary else 'json'}{path.replace('/', '-')}"
    return write_target(folder, port, path, (dialect.encode(row) for row in bench.rows.features))


def images() -> list[np.ndarray]:
    """Images with values as a normalised photograph has them, rounded as measured values are."""
    random = np.random.default_rng(SEED)
    return [random.normal(size=(1, *IMAGE_SHAPE)).round(DECIMALS).astype(np.float32) for _ in range(IMAGES)]


def image_target(bench: Bench, port: int, *, binary: bool) -> Target:
    folder = bench.scratch("bodies") / ("image-binary" if binary else "image-json")
    encode = _image_binary if binary else _image_json
    return write_target(folder, port, INFER_IMAGE, (encode(image) for image in images()))


def _image_json(image: np.ndarray) -> Body:
    data = [round(float(value), DECIMALS) for value in image.ravel()]
    tensor = {"name": "image", "datatype": "FP32", "shape": list(image.shape), "data": data}
    body = json.dumps({"inputs": [tensor]}, separators=(",", ":")).encode()
    return body, {"Content-Type": "application/json"}


def _image_binary(image: np.ndarray) -> Body:
    data = image.astype("<f4").tobytes()
    tensor = {
        "name": "image",
        "datatype": "FP32",
        "shape": list(image.shape),
        "parameters": {"binary_data_size": len(data)},
    }
    head = json.dumps({"parameters": {"binary_data_output": True}, "inputs": [tensor]}).encode()
    return head + data, {"Content-Type": "application/octet-stream", HEAD_LENGTH: str(len(head))}


def invocations(form: str, row: Sequence[float]) -> Body:
    """A row in one of MLflow's scoring forms."""
    names = [f"f{number}" for number in range(len(row))]
    content: object = {
        "instances": [list(row)],
        "inputs": {"x": [list(row)]},
        "dataframe_split": {"columns": names, "data": [list(row)]},
        "dataframe_records": [dict(zip(names, row, strict=True))],
    }[form]
    return json.dumps({form: content}).encode(), {"Content-Type": "application/json"}


def rows_target(bench: Bench, port: int, form: str) -> Target:
    bodies = (invocations(form, row) for row in bench.rows.features)
    return write_target(bench.scratch("bodies") / form, port, "/models/late/invocations", bodies)


def check_late(bench: Bench, server: Server, *, binary: bool) -> None:
    """Every row once: the answer must be what scikit-learn says."""
    dialect = V2Binary() if binary else V2Json()
    for row, expected in zip(bench.rows.features, bench.rows.probabilities, strict=True):
        body, headers = dialect.encode(row)
        answer = ask(server.port, INFER_LATE, body, headers)
        if answer.status != 200:
            raise FigureFailed(f"{INFER_LATE}: status {answer.status}: {answer.body[:300]!r}")
        said = dialect.decode(_as_answer(body, answer))
        if said is None or abs(said - expected) > TOLERANCE:
            raise FigureFailed(f"{INFER_LATE}: said {said}, scikit-learn says {expected}")


def _as_answer(asked: bytes, answer: Asked):  # type: ignore[no-untyped-def]
    from benchmarks.serving.dialects import Answer

    return Answer(asked=asked, headers=answer.headers, body=answer.body)
