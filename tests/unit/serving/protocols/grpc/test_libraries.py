"""The messages that are shipped are those of the proto; without the libraries there is a clear error."""

import sys
from pathlib import Path

import pytest
from grpc_tools import protoc

from penstock.core.errors import ConfigurationError
from penstock.serving.protocols.grpc import libraries
from penstock.serving.protocols.grpc.libraries import DESCRIPTORS, load_libraries, load_messages


def test_descriptors_are_up_to_date(tmp_path: Path) -> None:
    from google.protobuf.descriptor_pb2 import FileDescriptorSet

    made = tmp_path / "made.binpb"
    folder = DESCRIPTORS.parent
    assert not protoc.main(["protoc", f"-I{folder}", f"--descriptor_set_out={made}", "inference.proto"])
    shipped = FileDescriptorSet.FromString(DESCRIPTORS.read_bytes())
    assert shipped == FileDescriptorSet.FromString(made.read_bytes()), "run `make proto`"


def test_messages_stand_beside_those_of_other_clients() -> None:
    """An app may use Triton's or KServe's client, which put the same names into the pool of the process."""
    from google.protobuf import descriptor_pb2, descriptor_pool

    load_messages()
    (file,) = descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTORS.read_bytes()).file
    file.name = "somebody_elses.proto"
    descriptor_pool.Default().AddSerializedFile(file.SerializeToString())
    ours = load_messages().pool.FindMessageTypeByName("inference.ModelInferRequest")
    assert ours.file.name == "inference.proto"


@pytest.mark.parametrize("missing", ["grpc", "grpc_health.v1", "grpc_reflection.v1alpha", "google.protobuf"])
def test_what_is_missing_is_named(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    libraries.load_messages.cache_clear()
    try:
        with pytest.raises(ConfigurationError) as caught:
            load_libraries()
    finally:
        libraries.load_messages.cache_clear()
    assert "grpc_port" in caught.value.message
    assert caught.value.hint is not None
    assert "pip install 'penstock[grpc]'" in caught.value.hint


def test_unknown_messages_are_attribute_errors() -> None:
    with pytest.raises(AttributeError):
        _ = load_messages().NoSuchMessage
